package controllers_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/credsecret"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token/tokenfake"
)

// fleet issues grants, all at once.
func (w *world) fleet(size int) []string {
	w.t.Helper()
	var names []string
	for n := range size {
		names = append(names, fmt.Sprintf("press-%02d", n))
		w.press(names[n])
	}
	w.eventuallyLive(size)
	w.eventually("a fleet that says so", func() bool {
		return !slices.ContainsFunc(names, func(name string) bool { return len(w.grant(name).Status.Tokens) == 0 })
	})
	return names
}

func (w *world) instanceCondition(kind string) *metav1.Condition {
	w.t.Helper()
	i := w.instance()
	w.must(w.Get(w.t.Context(), keyOf(i), i))
	return apimeta.FindStatusCondition(i.Status.Conditions, kind)
}

func (w *world) editInstance(change func(*v1alpha1.MqttInstance)) *v1alpha1.MqttInstance {
	w.t.Helper()
	i := w.instance()
	w.must(w.Get(w.t.Context(), keyOf(i), i))
	w.edit(i, func() { change(i) })
	return i
}

// TestADenialCannotBeDodged in the seconds in which it settles, by whoever may write the Secret.
func TestADenialCannotBeDodged(t *testing.T) {
	facts := func(s *corev1.Secret, old, text string) {
		s.Annotations[credsecret.FactsAnnotation] = strings.ReplaceAll(s.Annotations[credsecret.FactsAnnotation], old, text)
	}
	for sentence, tamper := range map[string]func(t *testing.T, s *corev1.Secret, instanceUID string){
		"facts stripped":       func(_ *testing.T, s *corev1.Secret, _ string) { delete(s.Annotations, credsecret.FactsAnnotation) },
		"another instance UID": func(_ *testing.T, s *corev1.Secret, uid string) { facts(s, uid, "another") },
		"no tokens in the facts": func(t *testing.T, s *corev1.Secret, _ string) {
			t.Helper()
			read, err := credsecret.ReadFacts(&s.ObjectMeta)
			if err != nil {
				t.Fatal(err)
			}
			read.Tokens = nil
			if s.Annotations[credsecret.FactsAnnotation], err = read.Encode(); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			w := readyWorld(t)
			w.issued("press-07")
			i := w.editInstance(func(i *v1alpha1.MqttInstance) { i.Spec.AccessRules = nil })
			w.eventuallyCondition("press-07", v1alpha1.AuthorizedCondition, metav1.ConditionFalse, v1alpha1.ReasonNamespaceNotAllowed)
			s := w.secret("press-07")
			w.edit(s, func() { tamper(t, s, string(i.UID)) })
			w.settled()
			w.advance(time.Minute, "press-07")
			w.eventually("the token on the ledger", func() bool { return w.grant("press-07").Status.PendingRevocations == 1 })
			w.advance(time.Hour, "press-07")
			w.eventuallyLive(0)
			if revokes := w.revokes(); revokes != 1 {
				t.Errorf("%d revokes of one token", revokes)
			}
		})
	}
}

// TestAMistakeInARuleTakesNothingFromTheFleet walks through typo, correction, the same again, and a confirmation.
func TestAMistakeInARuleTakesNothingFromTheFleet(t *testing.T) {
	w := readyWorld(t)
	names := w.fleet(25)
	typo := func(i *v1alpha1.MqttInstance) { i.Spec.AccessRules[0].GroupIDs = []string{"GID_lime*"} }
	w.editInstance(typo)
	w.eventuallyCondition("press-07", v1alpha1.AuthorizedCondition, metav1.ConditionFalse, v1alpha1.ReasonClientNotAllowed)
	w.advance(time.Minute, names...)
	w.eventually("the guard", func() bool { return w.instanceCondition(v1alpha1.MassRevocationHeldCondition) != nil })
	w.settled()
	if c := w.instanceCondition(v1alpha1.MassRevocationHeldCondition); !strings.Contains(c.Message, "25 of 25") || !strings.Contains(c.Message, v1alpha1.ConfirmRevocationAnnotation+"=2") {
		t.Errorf("the message does not say how many and how to confirm: %s", c.Message)
	}
	w.advance(time.Hour, names...)
	w.settled()
	if live, revokes := len(w.service.Live()), w.revokes(); live != 25 || revokes != 0 {
		t.Fatalf("%d live tokens after %d revokes", live, revokes)
	}
	w.editInstance(func(i *v1alpha1.MqttInstance) { i.Spec.AccessRules[0].GroupIDs = []string{"GID_line*"} })
	w.eventuallyCondition("press-07", v1alpha1.AuthorizedCondition, metav1.ConditionTrue, v1alpha1.ReasonAllowed)
	w.eventually("no complaint", func() bool { return w.instanceCondition(v1alpha1.MassRevocationHeldCondition) == nil })
	if applies := len(w.service.Calls(tokenfake.Apply)); applies != 25 {
		t.Errorf("%d applies for a mistake and its correction", applies-25)
	}
	w.editInstance(typo)
	w.eventuallyCondition("press-07", v1alpha1.AuthorizedCondition, metav1.ConditionFalse, v1alpha1.ReasonClientNotAllowed)
	w.advance(time.Minute, names...)
	w.eventually("the guard again", func() bool { return w.instanceCondition(v1alpha1.MassRevocationHeldCondition) != nil })
	w.editInstance(func(i *v1alpha1.MqttInstance) {
		metav1.SetMetaDataAnnotation(&i.ObjectMeta, v1alpha1.ConfirmRevocationAnnotation, fmt.Sprint(i.Generation))
	})
	w.eventually("no guard", func() bool { return w.instanceCondition(v1alpha1.MassRevocationHeldCondition) == nil })
	for _, name := range names {
		w.eventuallyCondition(name, v1alpha1.ReadyCondition, metav1.ConditionFalse, v1alpha1.ReasonClientNotAllowed)
	}
	w.advance(time.Hour, names...)
	w.eventuallyLive(0)
}

// TestASpecThatAsksForTooMuchTakesNothingAway: a typo of the owner's must not cut the client off.
func TestASpecThatAsksForTooMuchTakesNothingAway(t *testing.T) {
	for sentence, tc := range map[string]struct {
		change       func(*v1alpha1.MqttTokenGrantSpec)
		withoutRules bool
		wantLive     int
	}{
		"a topic too many": {
			change: func(s *v1alpha1.MqttTokenGrantSpec) {
				s.Topics = append(s.Topics, v1alpha1.TopicPermission{Filter: "elsewhere", Actions: s.Topics[0].Actions})
			},
			wantLive: 1,
		},
		"a client that is not allowed": {
			change:   func(s *v1alpha1.MqttTokenGrantSpec) { s.Client.GroupID = "GID_office" },
			wantLive: 1,
		},
		"and no rule for what it has does": {
			change: func(s *v1alpha1.MqttTokenGrantSpec) {
				s.Topics = append(s.Topics, v1alpha1.TopicPermission{Filter: "elsewhere", Actions: s.Topics[0].Actions})
			},
			withoutRules: true, wantLive: 0,
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			w := readyWorld(t)
			w.issued("press-07")
			g := w.grant("press-07")
			w.edit(g, func() { tc.change(&g.Spec) })
			if tc.withoutRules {
				w.editInstance(func(i *v1alpha1.MqttInstance) { i.Spec.AccessRules = nil })
			}
			w.eventually("it is denied", func() bool {
				return w.condition("press-07", v1alpha1.AuthorizedCondition).Status == metav1.ConditionFalse
			})
			w.settled()
			w.advance(time.Minute, "press-07")
			w.settled()
			w.advance(time.Hour, "press-07")
			w.eventuallyLive(tc.wantLive)
		})
	}
}

func TestATokenRevokedBehindOurBackIsReplacedOnce(t *testing.T) {
	w := newWorld(t)
	w.verifyInterval = 24 * time.Hour
	w.becomeReady()
	w.issued("press-07", func(s *v1alpha1.MqttTokenGrantSpec) { s.Validity = "720h" })
	w.service.RevokeBehindOurBack(w.service.Issued()[0].Value)
	w.advance(25*time.Hour, "press-07")
	w.eventually("a replacement", func() bool { return w.grant("press-07").Status.Revision == 2 })
	w.eventuallyLive(1)
	w.settled()
	w.eventually("it is told", func() bool { return slices.Contains(w.reasons("press-07"), v1alpha1.EventTokenInvalid) })
	w.poke("press-07")
	w.settled()
	if n := len(w.service.Calls(tokenfake.Apply)); n != 2 {
		t.Errorf("%d applies, want one more than the first", n)
	}
	if facts, err := credsecret.ReadFacts(&w.secret("press-07").ObjectMeta); err != nil || len(facts.Retired) != 1 {
		t.Errorf("a token that was only called invalid is off the record: %+v, %v", facts.Retired, err)
	}
	w.advance(25*time.Hour, "press-07")
	w.settled()
	if n := len(w.service.Calls(tokenfake.Apply)); n != 2 {
		t.Errorf("%d applies after the token was found valid", n)
	}
}

// TestAFleetThatIsInvalidAtOnceIsNotReissued, unless somebody who looked says so.
func TestAFleetThatIsInvalidAtOnceIsNotReissued(t *testing.T) {
	w := newWorld(t)
	w.verifyInterval = 24 * time.Hour
	w.becomeReady()
	var names []string
	for n := range 8 {
		names = append(names, fmt.Sprintf("press-%02d", n))
		w.issued(names[n], func(s *v1alpha1.MqttTokenGrantSpec) { s.Validity = "720h" })
	}
	for _, issued := range w.service.Issued() {
		w.service.RevokeBehindOurBack(issued.Value)
	}
	w.advance(25*time.Hour, names...)
	w.eventually("the guard", func() bool { return w.instanceCondition(v1alpha1.TokensInvalidCondition) != nil })
	w.settled()
	if n := len(w.service.Calls(tokenfake.Apply)) - 8; n > 2 {
		t.Errorf("%d reissues before the guard noticed, want two at most", n)
	}
	w.editInstance(func(i *v1alpha1.MqttInstance) {
		metav1.SetMetaDataAnnotation(&i.ObjectMeta, v1alpha1.ConfirmReissueAnnotation, fmt.Sprint(i.Generation))
	})
	w.eventuallyLive(8)
	w.eventually("no complaint", func() bool { return w.instanceCondition(v1alpha1.TokensInvalidCondition) == nil })
}

func TestARestartVerifiesNothing(t *testing.T) {
	w := newWorld(t)
	w.verifyInterval = 24 * time.Hour
	w.becomeReady()
	w.issued("press-07")
	before := len(w.service.Calls(tokenfake.Query))
	w.run()
	w.settled()
	if n := len(w.service.Calls(tokenfake.Query)) - before; n != 1 {
		t.Errorf("%d queries, want the instance's one", n)
	}
}
