package desired_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/desired"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/policy"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/topic"
	"github.com/mqtt-token-operator/mqtt-token-operator/test/gen"
)

func TestRulesPickNamespaces(t *testing.T) {
	factory := &metav1.LabelSelector{MatchLabels: map[string]string{"mqtt": "factory"}}
	invalid := &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "mqtt", Operator: "Like", Values: []string{"f"}}}}
	for sentence, tc := range map[string]struct {
		namespaces v1alpha1.RuleNamespaces
		namespace  string
		want       bool
	}{
		"its own":                           {v1alpha1.RuleNamespaces{From: v1alpha1.NamespacesSame}, gen.DefaultNamespace, true},
		"its own is no other":               {v1alpha1.RuleNamespaces{From: v1alpha1.NamespacesSame}, "other", false},
		"all":                               {v1alpha1.RuleNamespaces{From: v1alpha1.NamespacesAll}, "other", true},
		"by a label that it has":            {v1alpha1.RuleNamespaces{From: v1alpha1.NamespacesSelector, Selector: factory}, "other", true},
		"by a label that it lacks":          {v1alpha1.RuleNamespaces{From: v1alpha1.NamespacesSelector, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"mqtt": "x"}}}, "other", false},
		"by an empty selector":              {v1alpha1.RuleNamespaces{From: v1alpha1.NamespacesSelector, Selector: &metav1.LabelSelector{}}, "other", true},
		"by a selector that is missing":     {v1alpha1.RuleNamespaces{From: v1alpha1.NamespacesSelector}, gen.DefaultNamespace, false},
		"by a selector that is invalid":     {v1alpha1.RuleNamespaces{From: v1alpha1.NamespacesSelector, Selector: invalid}, gen.DefaultNamespace, false},
		"in a way that is unknown":          {v1alpha1.RuleNamespaces{From: "Some", Selector: factory}, gen.DefaultNamespace, false},
		"in no way":                         {v1alpha1.RuleNamespaces{}, gen.DefaultNamespace, false},
		"its own, with a selector to widen": {v1alpha1.RuleNamespaces{From: v1alpha1.NamespacesSame, Selector: factory}, "other", false},
	} {
		t.Run(sentence, func(t *testing.T) {
			rule := gen.Rule(func(r *v1alpha1.AccessRule) { r.Namespaces = tc.namespaces })
			got := desired.Rules(gen.Instance("factory", gen.WithRules(rule)), tc.namespace, map[string]string{"mqtt": "factory"})
			if len(got) != 1 || got[0].AppliesToNamespace != tc.want {
				t.Errorf("rules %+v, want one that applies: %t", got, tc.want)
			}
		})
	}
}

// Where the labels of a namespace are not known, a selector picks by name or not at all.
func TestRulesPickNamespacesByNameAlone(t *testing.T) {
	const name = "kubernetes.io/metadata.name"
	that := func(key string, operator metav1.LabelSelectorOperator, values ...string) metav1.LabelSelectorRequirement {
		return metav1.LabelSelectorRequirement{Key: key, Operator: operator, Values: values}
	}
	for sentence, tc := range map[string]struct {
		selector metav1.LabelSelector
		want     bool
	}{
		"all of them":                       {want: true},
		"by name":                           {metav1.LabelSelector{MatchLabels: map[string]string{name: "other"}}, true},
		"by another name":                   {metav1.LabelSelector{MatchLabels: map[string]string{name: "another"}}, false},
		"by one of its names":               {metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{that(name, metav1.LabelSelectorOpIn, "x", "other")}}, true},
		"unless it has that name":           {metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{that(name, metav1.LabelSelectorOpNotIn, "other")}}, false},
		"by a label":                        {metav1.LabelSelector{MatchLabels: map[string]string{"mqtt": "factory"}}, false},
		"by name and a label":               {metav1.LabelSelector{MatchLabels: map[string]string{name: "other", "mqtt": "factory"}}, false},
		"unless it has a label":             {metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{that("tenant", metav1.LabelSelectorOpDoesNotExist)}}, false},
		"unless a label has a value":        {metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{that("tenant", metav1.LabelSelectorOpNotIn, "guest")}}, false},
		"by name, unless it has some label": {metav1.LabelSelector{MatchLabels: map[string]string{name: "other"}, MatchExpressions: []metav1.LabelSelectorRequirement{that("tenant", metav1.LabelSelectorOpDoesNotExist)}}, false},
	} {
		t.Run(sentence, func(t *testing.T) {
			rule := gen.Rule(func(r *v1alpha1.AccessRule) {
				r.Namespaces = v1alpha1.RuleNamespaces{From: v1alpha1.NamespacesSelector, Selector: &tc.selector}
			})
			got := desired.Rules(gen.Instance("factory", gen.WithRules(rule)), "other", nil)
			if len(got) != 1 || got[0].AppliesToNamespace != tc.want {
				t.Errorf("rules %+v, want one that applies: %t", got, tc.want)
			}
		})
	}
}

func TestRules(t *testing.T) {
	full := gen.Rule(func(r *v1alpha1.AccessRule) {
		r.GroupIDs, r.DeviceIDs = []string{"GID_line*"}, []string{"{namespace}-*"}
		r.AllowGroupGrants, r.MaxValidity = new(true), "24h"
		r.Topics = []v1alpha1.TopicRule{{Filter: "factory/{namespace}/#", Actions: []v1alpha1.Action{publish, "Delete", subscribe}}}
	})
	want := policy.Rule{
		AppliesToNamespace: true, GroupIDs: []string{"GID_line*"}, DeviceIDs: []string{"{namespace}-*"}, AllowGroupGrants: true,
		Topics:      []policy.TopicRule{{Filter: "factory/{namespace}/#", Actions: []token.Action{token.ActionPublish, token.ActionSubscribe}}},
		MaxValidity: 24 * time.Hour,
	}
	got := desired.Rules(gen.Instance("factory", gen.WithRules(full)), gen.DefaultNamespace, nil)
	if diff := cmp.Diff([]policy.Rule{want}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if none := desired.Rules(gen.Instance("factory", gen.WithRules()), gen.DefaultNamespace, nil); len(none) > 0 {
		t.Errorf("no rule became %+v", none)
	}
}

func TestARuleWithABoundThatIsNoneAllowsNothing(t *testing.T) {
	for _, bound := range []string{"banana", "1d", "-1h", "0s", "119s", "721h", "9999999999h"} {
		t.Run(bound, func(t *testing.T) {
			rule := gen.Rule(func(r *v1alpha1.AccessRule) { r.MaxValidity = bound })
			grant := gen.Grant("press-07")
			spec, err := desired.FromGrant(&grant.Spec)
			if err != nil {
				t.Fatal(err)
			}
			if rules := desired.Rules(gen.Instance("factory", gen.WithRules(rule)), grant.Namespace, nil); len(policy.Check(rules, spec.Request(grant))) == 0 {
				t.Error("it allows the grant")
			}
		})
	}
}

func TestRequest(t *testing.T) {
	grant := gen.Grant("press-07", gen.WithTopics(gen.Topic("a", publish), gen.Topic("b/#", subscribe, publish)))
	spec, err := desired.FromGrant(&grant.Spec)
	if err != nil {
		t.Fatal(err)
	}
	want := policy.Request{
		Namespace: gen.DefaultNamespace, GroupID: "GID_line_a", DeviceID: "press-07", Validity: 24 * time.Hour,
		Topics: []token.Permission{
			{Filter: topic.MustParse("a"), Actions: []token.Action{token.ActionPublish}},
			{Filter: topic.MustParse("b/#"), Actions: []token.Action{token.ActionSubscribe, token.ActionPublish}},
		},
	}
	got := spec.Request(grant)
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b topic.Filter) bool { return a == b })); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if violations := policy.Check(desired.Rules(gen.Instance("factory"), grant.Namespace, nil), got); len(violations) > 0 {
		t.Errorf("the default instance refuses the default grant: %v", violations)
	}
}
