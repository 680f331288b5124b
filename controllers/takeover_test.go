package controllers_test

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/ledger"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token/tokenfake"
	"github.com/mqtt-token-operator/mqtt-token-operator/pkg/mqttcred"
)

// successor is a grant with another name that asks for what press-07 has, in the same Secret.
func (w *world) successor(change ...func(*v1alpha1.MqttTokenGrant)) *v1alpha1.MqttTokenGrant {
	w.t.Helper()
	old := w.grant("press-07")
	g := &v1alpha1.MqttTokenGrant{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: w.namespace, Name: "press-seven", Annotations: map[string]string{v1alpha1.TakeOverAnnotation: "press-07"},
		},
		Spec: *old.Spec.DeepCopy(),
	}
	g.Spec.Secret.Name = "press-07"
	for _, c := range change {
		c(g)
	}
	w.must(w.Create(w.t.Context(), g))
	return g
}

func TestASuccessorTakesTheSecretOver(t *testing.T) {
	for sentence, deleteFirst := range map[string]bool{
		"while its predecessor is there":         false,
		"while its predecessor is being deleted": true,
	} {
		t.Run(sentence, func(t *testing.T) {
			w := readyWorld(t)
			old := w.issued("press-07")
			before := w.secret("press-07")
			if deleteFirst { // both are there when the manager looks
				w.stop()
				w.must(w.Delete(t.Context(), old))
				w.successor()
				w.run()
			} else {
				w.successor()
			}
			w.eventuallyCondition("press-seven", v1alpha1.ReadyCondition, metav1.ConditionTrue, v1alpha1.ReasonIssued)
			w.must(client.IgnoreNotFound(w.Delete(t.Context(), old)))
			w.eventually("the predecessor is gone", func() bool { return apierrors.IsNotFound(w.Get(t.Context(), keyOf(old), old)) })
			w.settled()
			after := w.secret("press-07")
			for _, s := range []*corev1.Secret{before, after} {
				delete(s.Data, mqttcred.KeyRenewAt) // the heir's jitter is another one
			}
			if after.UID != before.UID || !sameBytes(after.Data, before.Data) {
				t.Error("the Secret is another one, or holds something else")
			}
			if n, m := len(w.service.Calls(tokenfake.Apply)), len(w.service.Calls(tokenfake.Revoke)); n != 1 || m != 0 {
				t.Errorf("%d applies and %d revokes for a change of name", n-1, m)
			}
			heir := w.grant("press-seven")
			w.must(w.Delete(t.Context(), heir))
			w.eventually("the heir is gone", func() bool { return apierrors.IsNotFound(w.Get(t.Context(), keyOf(heir), heir)) })
			w.eventuallyLive(0)
			if err := w.Get(t.Context(), keyOf(before), &corev1.Secret{}); !apierrors.IsNotFound(err) {
				t.Errorf("the Secret is still there: %v", err)
			}
		})
	}
}

// TestAnHeirKeepsNothingThatIsDoomed: what its predecessor's page revokes would be cut off under it.
func TestAnHeirKeepsNothingThatIsDoomed(t *testing.T) {
	w := readyWorld(t)
	old := w.issued("press-07")
	first := w.service.Issued()[0]
	w.stop() // a manager died between the ledger and the Secret
	w.record(old, ledger.Entry{
		Value: first.Value, Client: "post-cn-test/GID_line_a@@@press-07", Instance: w.factory().String(),
		Expires: first.Expires, RevokeAt: w.clock.Now().Add(time.Hour), Why: ledger.Narrowed,
	})
	w.edit(old, func() { old.Spec.Suspend = new(true) })
	w.successor(func(g *v1alpha1.MqttTokenGrant) { g.Spec.Suspend = nil })
	w.run()
	w.eventuallyCondition("press-seven", v1alpha1.ReadyCondition, metav1.ConditionTrue, v1alpha1.ReasonIssued)
	w.settled()
	if strings.Contains(string(w.secret("press-07").Data[mqttcred.KeyPassword]), first.Value.Reveal()) {
		t.Error("the heir offers a token that is about to be revoked")
	}
	if n := len(w.service.Calls(tokenfake.Apply)); n != 2 {
		t.Errorf("%d applies, want one for each grant", n)
	}
}

func TestNobodyTakesOverWithoutBeingTold(t *testing.T) {
	for sentence, change := range map[string]func(*v1alpha1.MqttTokenGrant){
		"without the annotation":            func(g *v1alpha1.MqttTokenGrant) { g.Annotations = nil },
		"with another predecessor's name":   func(g *v1alpha1.MqttTokenGrant) { g.Annotations[v1alpha1.TakeOverAnnotation] = "press-08" },
		"with an empty predecessor's name ": func(g *v1alpha1.MqttTokenGrant) { g.Annotations[v1alpha1.TakeOverAnnotation] = "" },
	} {
		t.Run(sentence, func(t *testing.T) {
			w := readyWorld(t)
			w.issued("press-07")
			w.successor(change)
			w.eventuallyCondition("press-seven", v1alpha1.ReadyCondition, metav1.ConditionFalse, v1alpha1.ReasonSecretConflict)
		})
	}
}

// TestWhatWasTakenOverCanBeWithdrawn: fields that the predecessor wrote must be the heir's to remove.
func TestWhatWasTakenOverCanBeWithdrawn(t *testing.T) {
	w := readyWorld(t)
	w.issued("press-07")
	w.successor()
	w.eventuallyCondition("press-seven", v1alpha1.ReadyCondition, metav1.ConditionTrue, v1alpha1.ReasonIssued)
	w.settled()
	w.annotate("press-seven", v1alpha1.HoldAnnotation, "leak")
	w.eventuallyLive(0)
	w.eventually("no password is left", func() bool { return len(w.secret("press-07").Data["password"]) == 0 })
}

// TestAnHeirInheritsTheClientID, whoever else waits for it.
func TestAnHeirInheritsTheClientID(t *testing.T) {
	w := readyWorld(t)
	old := w.issued("press-07")
	w.clock.SetTime(w.clock.Now().Add(time.Minute))
	w.press("stranger", sameClient)
	w.eventuallyInConflict("stranger")
	w.clock.SetTime(w.clock.Now().Add(time.Minute))
	w.successor()
	w.eventuallyCondition("press-seven", v1alpha1.ReadyCondition, metav1.ConditionTrue, v1alpha1.ReasonIssued)
	w.must(client.IgnoreNotFound(w.Delete(t.Context(), old)))
	w.eventually("the predecessor is gone", func() bool { return apierrors.IsNotFound(w.Get(t.Context(), keyOf(old), old)) })
	w.settled()
	w.eventuallyInConflict("stranger")
	if c := w.condition("press-seven", v1alpha1.AuthorizedCondition); c.Status != metav1.ConditionTrue {
		t.Errorf("the heir lost it: %s", c.Message)
	}
	if n := len(w.service.Calls(tokenfake.Apply)); n != 1 {
		t.Errorf("%d applies", n)
	}
}

// TestThoseThatTakeOverFromEachOtherInheritNothing: a Secret would go round for ever.
func TestThoseThatTakeOverFromEachOtherInheritNothing(t *testing.T) {
	w := readyWorld(t)
	old := w.issued("press-07")
	w.edit(old, func() {
		metav1.SetMetaDataAnnotation(&old.ObjectMeta, v1alpha1.TakeOverAnnotation, "press-seven")
	})
	w.successor(func(g *v1alpha1.MqttTokenGrant) { g.Spec.Client.DeviceID = "press-seven" })
	w.eventuallyCondition("press-seven", v1alpha1.ReadyCondition, metav1.ConditionFalse, v1alpha1.ReasonSecretConflict)
	w.settled()
	w.requests.take()
	w.poke("press-07")
	w.settled()
	if n := len(w.requests.take()); n > 3 {
		t.Errorf("%d requests for nothing", n)
	}
}
