package controllers_test

import (
	"maps"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token/tokenfake"
	"github.com/mqtt-token-operator/mqtt-token-operator/pkg/mqttcred"
)

func (w *world) annotate(name, key, value string) {
	w.t.Helper()
	g := w.grant(name)
	w.edit(g, func() { metav1.SetMetaDataAnnotation(&g.ObjectMeta, key, value) })
}

func (w *world) unannotate(name, key string) {
	w.t.Helper()
	g := w.grant(name)
	w.edit(g, func() { delete(g.Annotations, key) })
}

// eventuallyLive waits until exactly so many tokens are alive at the service.
func (w *world) eventuallyLive(want int) {
	w.t.Helper()
	w.eventually("the right number of live tokens", func() bool { return len(w.service.Live()) == want })
}

func TestHoldCutsOffAndReleaseLetsBack(t *testing.T) {
	w := readyWorld(t)
	w.issued("press-07")
	w.advance(17*time.Hour, "press-07")
	w.eventually("a renewal", func() bool { return w.grant("press-07").Status.Revision == 2 })
	w.eventuallyLive(2)
	w.annotate("press-07", v1alpha1.HoldAnnotation, "seen on the wrong network")
	w.eventuallyLive(0)
	w.eventuallyCondition("press-07", v1alpha1.HeldCondition, metav1.ConditionTrue, v1alpha1.ReasonHeld)
	w.eventuallyCondition("press-07", v1alpha1.ReadyCondition, metav1.ConditionFalse, v1alpha1.ReasonHeld)
	w.eventually("nothing is left to revoke", func() bool { return w.grant("press-07").Status.PendingRevocations == 0 })
	held := w.secret("press-07")
	if _, found := held.Data[mqttcred.KeyPassword]; found || string(held.Data[mqttcred.KeyTokens]) != "[]" || len(held.Data[mqttcred.KeyHost]) == 0 {
		t.Errorf("a held Secret has the keys %v", slices.Sorted(maps.Keys(held.Data)))
	}
	w.advance(48*time.Hour, "press-07")
	w.settled()
	if n := len(w.service.Calls(tokenfake.Apply)); n != 2 {
		t.Errorf("%d applies, want none while held", n-2)
	}
	w.unannotate("press-07", v1alpha1.HoldAnnotation)
	w.eventuallyCondition("press-07", v1alpha1.ReadyCondition, metav1.ConditionTrue, v1alpha1.ReasonIssued)
	w.eventuallyCondition("press-07", v1alpha1.HeldCondition, "", "")
	w.eventuallyLive(1)
}

func TestAHeldGrantHasNothingToAbandon(t *testing.T) {
	w := readyWorld(t)
	g := w.issued("press-07", func(s *v1alpha1.MqttTokenGrantSpec) { s.DeletionPolicy = v1alpha1.DeletionPolicyAbandon })
	w.annotate("press-07", v1alpha1.HoldAnnotation, "leak")
	w.must(w.Delete(t.Context(), g))
	w.eventually("the grant is gone", func() bool { return apierrors.IsNotFound(w.Get(t.Context(), keyOf(g), g)) })
	w.eventuallyLive(0)
}

func TestAHoldNeedsNoSpecThatCanBeUnderstood(t *testing.T) {
	w := readyWorld(t)
	w.issued("press-07")
	i := w.instance()
	w.must(w.Delete(t.Context(), i))
	w.settled()
	w.annotate("press-07", v1alpha1.HoldAnnotation, "leak")
	w.eventuallyLive(0)
}

func TestAReissueThatRevokes(t *testing.T) {
	w := readyWorld(t)
	w.issued("press-07")
	w.annotate("press-07", v1alpha1.ReissuePolicyAnnotation, v1alpha1.ReissuePolicyRevoke)
	w.settled()
	if n := len(w.service.Calls(tokenfake.Apply)); n != 1 {
		t.Errorf("the policy alone costs %d applies", n-1)
	}
	w.annotate("press-07", v1alpha1.ReissueAnnotation, "leak-42")
	w.eventually("a second revision", func() bool { return w.grant("press-07").Status.Revision == 2 })
	w.eventuallyLive(1)
	if got := w.service.Live()[0].Value; got != w.service.Issued()[1].Value {
		t.Error("the wrong token was revoked")
	}
}

func TestACompromisedKeyTakesItsTokensAlong(t *testing.T) {
	w := readyWorld(t)
	w.issued("press-07")
	i := w.instance()
	w.must(w.Get(t.Context(), keyOf(i), i))
	w.edit(i, func() { metav1.SetMetaDataAnnotation(&i.ObjectMeta, v1alpha1.CompromisedKeyAnnotation, "LTAI-one") })
	w.settled()
	if n := len(w.service.Live()); n != 1 {
		t.Fatalf("%d live tokens, want the one that nothing replaces yet", n)
	}
	w.credential("LTAI-two", "secret-two")
	w.eventually("a token for the new key", func() bool { return w.grant("press-07").Status.Revision == 2 })
	w.advance(6*time.Minute, "press-07")
	w.eventuallyLive(1)
}

func TestAKeyRotationAloneRevokesNothing(t *testing.T) {
	w := readyWorld(t)
	w.issued("press-07")
	w.credential("LTAI-two", "secret-two")
	w.eventually("a token for the new key", func() bool { return w.grant("press-07").Status.Revision == 2 })
	w.advance(6*time.Minute, "press-07")
	w.settled()
	if n := len(w.service.Live()); n != 2 {
		t.Fatalf("%d live tokens, want both", n)
	}
	i := w.instance()
	w.eventually("the new key alone in use", func() bool {
		w.must(w.Get(t.Context(), keyOf(i), i))
		return slices.Equal(i.Status.AccessKeysInUse, []string{"LTAI-two"})
	})
	w.edit(i, func() { metav1.SetMetaDataAnnotation(&i.ObjectMeta, v1alpha1.CompromisedKeyAnnotation, "LTAI-one") })
	w.settled()
	w.advance(6*time.Minute, "press-07")
	w.eventuallyLive(1)
}

func TestADeniedGrantLosesItsTokensAndGetsThemBack(t *testing.T) {
	w := readyWorld(t)
	w.issued("press-07")
	i := w.instance()
	w.must(w.Get(t.Context(), keyOf(i), i))
	rules := i.Spec.AccessRules
	w.edit(i, func() { i.Spec.AccessRules = nil })
	w.eventuallyCondition("press-07", v1alpha1.AuthorizedCondition, metav1.ConditionFalse, v1alpha1.ReasonNamespaceNotAllowed)
	w.advance(time.Minute, "press-07") // what one change denies is gathered first
	w.eventuallyCondition("press-07", v1alpha1.ReadyCondition, metav1.ConditionFalse, v1alpha1.ReasonNamespaceNotAllowed)
	if _, found := w.secret("press-07").Data[mqttcred.KeyPassword]; found {
		t.Error("the Secret still holds a password")
	}
	if n := len(w.service.Live()); n != 1 {
		t.Errorf("%d live tokens, want the one whose overlap is not over", n)
	}
	w.advance(6*time.Minute, "press-07")
	w.eventuallyLive(0)
	w.edit(i, func() { i.Spec.AccessRules = rules })
	w.eventuallyCondition("press-07", v1alpha1.ReadyCondition, metav1.ConditionTrue, v1alpha1.ReasonIssued)
}

// TestARecreatedInstanceIsNoDenial: its rules may not be complete yet.
func TestARecreatedInstanceIsNoDenial(t *testing.T) {
	w := readyWorld(t)
	w.issued("press-07")
	w.deleteInstance()
	i := w.instance()
	i.Spec.AccessRules = nil
	w.must(w.Create(t.Context(), i))
	w.eventuallyCondition("press-07", v1alpha1.AuthorizedCondition, metav1.ConditionFalse, v1alpha1.ReasonNamespaceNotAllowed)
	w.advance(time.Hour, "press-07")
	w.settled()
	if n := len(w.service.Live()); n != 1 || len(w.secret("press-07").Data[mqttcred.KeyPassword]) == 0 {
		t.Errorf("%d live tokens after the instance was made again", n)
	}
}

func TestADeletedSecretIsReplacedAndItsTokenRevokedAfterTheOverlap(t *testing.T) {
	w := readyWorld(t)
	w.issued("press-07")
	w.advance(time.Minute, "press-07")
	old := w.secret("press-07")
	w.must(w.Delete(t.Context(), old))
	w.eventually("another Secret", func() bool {
		s := &corev1.Secret{}
		return w.Get(t.Context(), keyOf(old), s) == nil && s.UID != old.UID
	})
	w.eventuallyLive(2)
	w.advance(6*time.Minute, "press-07")
	w.eventuallyLive(1)
}

// TestADeletedSecretIsKeptWhileNothingCanReplaceIt: the client goes on with what it has.
func TestADeletedSecretIsKeptWhileNothingCanReplaceIt(t *testing.T) {
	w := readyWorld(t)
	w.issued("press-07")
	w.advance(time.Minute, "press-07")
	w.service.FailNext(tokenfake.Apply, repeat(unavailable(), 2)...)
	old := w.secret("press-07")
	w.must(w.Delete(t.Context(), old))
	w.eventually("a failed attempt", func() bool { return w.grant("press-07").Status.FailedAttempts > 0 })
	if now := w.secret("press-07"); now.UID != old.UID || !sameBytes(now.Data, old.Data) {
		t.Error("the last good Secret went before its successor was there")
	}
	w.advance(time.Hour, "press-07")
	w.eventually("another Secret", func() bool {
		s := &corev1.Secret{}
		return w.Get(t.Context(), keyOf(old), s) == nil && s.UID != old.UID
	})
}
