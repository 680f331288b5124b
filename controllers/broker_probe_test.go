package controllers_test

import (
	"context"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/probe"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token/tokenfake"
)

// probed is a world whose instance asks its broker, which answers by script.
func (w *world) probed(answer func(probe.Target) error) chan probe.Target {
	w.t.Helper()
	asked := make(chan probe.Target, 16)
	w.probe = func(_ context.Context, target probe.Target) error {
		asked <- target
		return answer(target)
	}
	w.becomeReady()
	w.editInstance(func(i *v1alpha1.MqttInstance) {
		i.Spec.Broker.Probe = v1alpha1.BrokerProbe{GroupID: "GID_probe", Topic: "factory/probe"}
	})
	return asked
}

func (w *world) eventuallyBroker(status metav1.ConditionStatus, reason string) *metav1.Condition {
	w.t.Helper()
	w.eventually("the broker: "+reason, func() bool {
		c := w.instanceCondition(v1alpha1.BrokerAcceptsCondition)
		return c != nil && c.Status == status && c.Reason == reason
	})
	return w.instanceCondition(v1alpha1.BrokerAcceptsCondition)
}

// TestABrokerIsAskedOnce a day, with a token of minutes that is revoked at once.
func TestABrokerIsAskedOnce(t *testing.T) {
	w := newWorld(t)
	asked := w.probed(func(probe.Target) error { return nil })
	w.eventuallyBroker(metav1.ConditionTrue, v1alpha1.ReasonBrokerAdmits)
	target := <-asked
	if target.Host != "post-cn-test.mqtt.aliyuncs.com" || target.Port != 8883 || target.Username != "Token|LTAI-one|post-cn-test" ||
		target.Topic != "factory/probe" || !strings.HasPrefix(target.ClientID, "GID_probe@@@probe-") || !strings.HasPrefix(target.Password.Reveal(), "RW|") {
		t.Errorf("asked as %+v", target)
	}
	issued := w.service.Issued()
	if len(issued) != 1 || issued[0].Scope.Type != token.PublishSubscribe || issued[0].Expires.Sub(w.clock.Now()) > 2*time.Minute {
		t.Errorf("issued %+v", issued)
	}
	w.eventuallyLive(0)
	w.run()
	w.settled()
	if n := len(w.service.Calls(tokenfake.Apply)); n != 1 || len(asked) != 0 {
		t.Errorf("%d applies, after a restart", n)
	}
	w.clock.SetTime(w.clock.Now().Add(25 * time.Hour))
	w.editInstance(func(i *v1alpha1.MqttInstance) { metav1.SetMetaDataAnnotation(&i.ObjectMeta, "test/poke", "now") })
	w.eventually("another look a day later", func() bool { return len(w.service.Calls(tokenfake.Apply)) == 2 })
	w.editInstance(func(i *v1alpha1.MqttInstance) { i.Spec.Broker.Probe = v1alpha1.BrokerProbe{} })
	w.eventually("no condition", func() bool { return w.instanceCondition(v1alpha1.BrokerAcceptsCondition) == nil })
}

func TestWhatABrokerAnswersIsTold(t *testing.T) {
	for sentence, tc := range map[string]struct {
		answer error
		reason string
		want   string
	}{
		"it refuses the username": {&probe.RefusedError{Step: probe.StepConnect, Answer: "not authorized (code 5)"}, v1alpha1.ReasonBrokerRefused, "Token|LTAI-one|post-cn-test: not authorized (code 5)"},
		"it cannot be reached":    {&probe.RefusedError{Step: probe.StepReach, Answer: "no connection"}, v1alpha1.ReasonBrokerUnreachable, "post-cn-test.mqtt.aliyuncs.com:8883: no connection"},
	} {
		t.Run(sentence, func(t *testing.T) {
			w := newWorld(t)
			w.probed(func(probe.Target) error { return tc.answer })
			if c := w.eventuallyBroker(metav1.ConditionFalse, tc.reason); !strings.Contains(c.Message, tc.want) {
				t.Errorf("it says %s", c.Message)
			}
			w.eventuallyInstance(metav1.ConditionTrue, v1alpha1.ReasonConnected) // clients elsewhere may have better luck
			w.eventuallyLive(0)
		})
	}
}

// TestNoProbeGoesWhereItsOwnerLikes: whoever writes an instance must not have the manager connect to any host.
func TestNoProbeGoesWhereItsOwnerLikes(t *testing.T) {
	w := newWorld(t)
	asked := w.probed(func(probe.Target) error { return nil })
	w.eventuallyBroker(metav1.ConditionTrue, v1alpha1.ReasonBrokerAdmits)
	<-asked
	for _, host := range []string{"internal.example.com", "a.b.mqtt.aliyuncs.com", "mqtt.aliyuncs.com"} {
		w.editInstance(func(i *v1alpha1.MqttInstance) { i.Spec.Broker.Host = host })
		w.eventuallyBroker(metav1.ConditionFalse, v1alpha1.ReasonEndpointNotAllowed)
	}
	w.settled()
	if len(asked) != 0 {
		t.Error("a host of somebody's choice was asked")
	}
}

func TestAProbeWithoutATokenSaysSo(t *testing.T) {
	w := newWorld(t)
	w.service.FailNext(tokenfake.Apply, &token.Error{Kind: token.KindDenied, Op: "Apply", Code: "PermissionCheckFailed", RequestID: "r"})
	asked := w.probed(func(probe.Target) error { return nil })
	w.eventuallyBroker(metav1.ConditionFalse, v1alpha1.ReasonProbeFailed)
	if len(asked) != 0 {
		t.Error("the broker was asked without a token")
	}
}
