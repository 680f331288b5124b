package controllers_test

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token/tokenfake"
)

// sameClient has a grant ask for the client id of press-07.
func sameClient(s *v1alpha1.MqttTokenGrantSpec) { s.Client.DeviceID = "press-07" }

func (w *world) eventuallyInConflict(name string) {
	w.t.Helper()
	w.eventuallyCondition(name, v1alpha1.AuthorizedCondition, metav1.ConditionFalse, v1alpha1.ReasonClientIDConflict)
}

func TestAClientIDHasOneGrant(t *testing.T) {
	w := readyWorld(t)
	first := w.issued("press-07")
	w.press("second", sameClient)
	w.eventuallyInConflict("second")
	w.settled()
	if c := w.condition("second", v1alpha1.ReadyCondition); c.Reason != v1alpha1.ReasonClientIDConflict || !strings.Contains(c.Message, `Grant "press-07"`) {
		t.Errorf("Ready says %s: %s", c.Reason, c.Message)
	}
	if got := w.grant("second").Status; got.ClientID != "" || got.InstanceID != "" {
		t.Errorf("the second grant seems to have %q at %q", got.ClientID, got.InstanceID)
	}
	if got := w.grant("press-07").Status; got.ClientID != "GID_line_a@@@press-07" || got.InstanceID != "post-cn-test" {
		t.Errorf("the first has %q at %q", got.ClientID, got.InstanceID)
	}
	if n := len(w.service.Calls(tokenfake.Apply)); n != 1 {
		t.Errorf("%d applies for one client", n)
	}
	w.requests.take()
	w.run()
	w.settled()
	for _, request := range w.requests.take() {
		if !strings.HasPrefix(request, "GET ") && !strings.Contains(request, "/mqttinstances/") { // which is late in counting
			t.Errorf("a restart does %s", request)
		}
	}
	w.must(w.Delete(t.Context(), first))
	w.eventuallyCondition("second", v1alpha1.ReadyCondition, metav1.ConditionTrue, v1alpha1.ReasonIssued)
}

// TestAnOlderGrantTakesNobodysClientIDAway when somebody edits it.
func TestAnOlderGrantTakesNobodysClientIDAway(t *testing.T) {
	w := readyWorld(t)
	old := w.issued("older")
	w.clock.SetTime(w.clock.Now().Add(time.Minute))
	w.issued("press-07")
	w.must(w.Get(t.Context(), keyOf(old), old))
	w.edit(old, func() { sameClient(&old.Spec) })
	w.eventuallyInConflict("older")
	w.settled()
	if c := w.condition("press-07", v1alpha1.ReadyCondition); c.Status != metav1.ConditionTrue {
		t.Errorf("the holder is %s: %s", c.Reason, c.Message)
	}
	if got := w.grant("older").Status.ClientID; got != "GID_line_a@@@older" {
		t.Errorf("the older grant has tokens for its first client id, and claims %q", got)
	}
	if applies, revokes := len(w.service.Calls(tokenfake.Apply)), w.revokes(); applies != 2 || revokes != 0 {
		t.Errorf("%d applies, %d revokes", applies, revokes)
	}
	w.must(w.Get(t.Context(), keyOf(old), old))
	w.edit(old, func() { old.Spec.Client.DeviceID = "older" })
	w.eventuallyCondition("older", v1alpha1.ReadyCondition, metav1.ConditionTrue, v1alpha1.ReasonIssued)
}

// TestABogusInstanceSquatsNoClientID: anybody can make an MqttInstance that names the instance of others.
func TestABogusInstanceSquatsNoClientID(t *testing.T) {
	w := readyWorld(t)
	bogus := w.instance()
	bogus.Name, bogus.Spec.Credentials.AccessKey.SecretRef.Name = "bogus", "nothing"
	w.must(w.Create(t.Context(), bogus))
	w.press("squatter", sameClient, func(s *v1alpha1.MqttTokenGrantSpec) { s.InstanceRef.Name = "bogus" })
	w.eventuallyCondition("squatter", v1alpha1.ReadyCondition, metav1.ConditionFalse, v1alpha1.ReasonInstanceNotReady)
	w.issued("press-07")
}

func TestGrantsOfAGroupShareItsID(t *testing.T) {
	w := readyWorld(t)
	w.editInstance(func(i *v1alpha1.MqttInstance) { i.Spec.AccessRules[0].AllowGroupGrants = new(true) })
	group := func(s *v1alpha1.MqttTokenGrantSpec) { s.Client.DeviceID = "" }
	w.issued("first", group)
	w.issued("second", group)
}

// TestNobodyComesBackForAClientID that another one was given meanwhile.
func TestNobodyComesBackForAClientID(t *testing.T) {
	w := readyWorld(t)
	old := w.issued("press-07")
	w.clock.SetTime(w.clock.Now().Add(time.Minute))
	w.press("second", sameClient)
	w.eventuallyInConflict("second")
	w.must(w.Get(t.Context(), keyOf(old), old))
	w.edit(old, func() { old.Spec.InstanceRef.Name = "nowhere" })
	w.settled()
	w.eventuallyInConflict("second") // the old one's tokens are alive
	w.advance(25*time.Hour, "press-07")
	w.eventuallyCondition("second", v1alpha1.ReadyCondition, metav1.ConditionTrue, v1alpha1.ReasonIssued)
	w.must(w.Get(t.Context(), keyOf(old), old))
	w.edit(old, func() { old.Spec.InstanceRef.Name = "factory" })
	w.eventuallyInConflict("press-07")
	w.settled()
	if c := w.condition("second", v1alpha1.AuthorizedCondition); c.Status != metav1.ConditionTrue {
		t.Errorf("the second lost it: %s", c.Message)
	}
}

// TestAFrozenSecretBlocksNoClientID: its tokens are revoked all the same, and with them goes the claim.
func TestAFrozenSecretBlocksNoClientID(t *testing.T) {
	w := readyWorld(t)
	other := w.instance() // the same instance, declared by another team
	other.Name = "other"
	w.must(w.Create(t.Context(), other))
	w.issued("press-07")
	w.press("second", sameClient, func(s *v1alpha1.MqttTokenGrantSpec) { s.InstanceRef.Name = "other" })
	w.eventuallyInConflict("second")
	s := w.secret("press-07")
	w.edit(s, func() { s.Immutable = new(true) })
	w.editInstance(func(i *v1alpha1.MqttInstance) { i.Spec.AccessRules = nil })
	w.eventuallyCondition("press-07", v1alpha1.AuthorizedCondition, metav1.ConditionFalse, v1alpha1.ReasonNamespaceNotAllowed)
	w.settled()
	w.advance(time.Minute, "press-07")
	w.eventuallyCondition("second", v1alpha1.ReadyCondition, metav1.ConditionTrue, v1alpha1.ReasonIssued)
}

// A grant in deletion looks for no rivals any more; what it may not have it must not claim, least of all for an heir.
func TestAGrantInDeletionClaimsNoClientIDOfOthers(t *testing.T) {
	w := readyWorld(t)
	older := w.issued("older")
	w.issued("press-07")
	w.edit(older, func() { sameClient(&older.Spec) })
	w.eventuallyInConflict("older")
	w.settled()
	for range 40 {
		w.service.FailNext(tokenfake.Revoke, &token.Error{Kind: token.KindDenied, Op: "Revoke", Code: "NotNow"})
	}
	w.must(w.Delete(t.Context(), older))
	w.eventually("the deletion waits for its tokens", func() bool { return w.grant("older").Status.FailedAttempts > 0 })
	w.settled()
	if got := w.grant("older").Status.ClientID; got != "GID_line_a@@@older" {
		t.Errorf("it claims %q", got)
	}
	heir := &v1alpha1.MqttTokenGrant{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: w.namespace, Name: "heir", Annotations: map[string]string{v1alpha1.TakeOverAnnotation: "older"},
		},
		Spec: *w.grant("press-07").Spec.DeepCopy(),
	}
	heir.Spec.Secret.Name = "heir"
	w.must(w.Create(t.Context(), heir))
	w.eventuallyInConflict("heir")
	w.settled()
	w.service.ClearScript()
}
