package controllers

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/plan"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/policy"
	"github.com/mqtt-token-operator/mqtt-token-operator/test/gen"
)

// TestAStrangerLearnsNothing: a grant that names an instance elsewhere reads the same whether there is one or not.
func TestAStrangerLearnsNothing(t *testing.T) {
	grant := gen.Grant("press-07", gen.WithInstance("victim", "broker"))
	missing := observation{grant: grant, input: plan.Input{Now: guardStart()}}
	instance := newGuarded(0).instance
	instance.Namespace, instance.Name, instance.Spec.InstanceID = "victim", "broker", "post-cn-victim"
	there := observation{grant: grant, input: missing.input, instance: instance, violations: []policy.Violation{{Reason: policy.NamespaceNotAllowed}}}
	status := func(seen observation, problem *problem) v1alpha1.MqttTokenGrantStatus {
		out := outcome{decision: plan.Decision{Verb: plan.Wait, Reason: plan.ReasonDenied}, problem: problem}
		return seen.status(out, seen.worded(out))
	}
	if diff := cmp.Diff(status(missing, missing.whyNotIssue()), status(there, there.whyWaiting(plan.Decision{Reason: plan.ReasonDenied}))); diff != "" {
		t.Errorf("(-no instance +an instance):\n%s", diff)
	}
	served := grant.DeepCopy()
	served.Status.InstanceID = "post-cn-victim"
	there.grant = served
	if p := there.whyWaiting(plan.Decision{Reason: plan.ReasonDenied}); p.reason != v1alpha1.ReasonNamespaceNotAllowed {
		t.Errorf("who was served before reads %s", p.reason)
	}
}
