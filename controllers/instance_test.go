package controllers_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token/tokenfake"
)

func (w *world) getInstance() *v1alpha1.MqttInstance {
	w.t.Helper()
	i := w.instance()
	w.must(w.Get(w.t.Context(), keyOf(i), i))
	return i
}

// pokeInstance makes the manager look at the instance again, as the passing of time would.
func (w *world) pokeInstance() {
	w.t.Helper()
	w.editInstance(func(i *v1alpha1.MqttInstance) {
		metav1.SetMetaDataAnnotation(&i.ObjectMeta, "test/poke", w.clock.Now().String())
	})
}

// TestAnOutageIsToldAtTheInstanceOnce: its grants wait, keep what they have, and say nothing.
func TestAnOutageIsToldAtTheInstanceOnce(t *testing.T) {
	w := readyWorld(t)
	names := w.fleet(12)
	w.service.FailNext(tokenfake.Apply, repeat(unavailable(), 1000)...)
	w.service.FailNext(tokenfake.Query, repeat(unavailable(), 1000)...)
	w.requests.take()
	w.advance(17*time.Hour, names...)
	w.eventuallyInstance(metav1.ConditionFalse, v1alpha1.ReasonServiceUnavailable)
	w.settled()
	attempts := len(w.service.Calls(tokenfake.Apply)) - len(names)
	for range 5 {
		w.advance(20*time.Second, names...)
		w.settled()
	}
	if n := len(w.service.Calls(tokenfake.Apply)) - len(names); n != attempts || attempts > 5+4 { // four workers may be under way
		t.Errorf("%d attempts before the instance was out of use, and %d after", attempts, n-attempts)
	}
	told := 0
	for _, name := range names {
		if c := w.condition(name, v1alpha1.ReadyCondition); c.Status != metav1.ConditionTrue {
			t.Errorf("%s is not Ready although its token is valid: %s", name, c.Message)
		}
		if slices.Contains(w.reasons(name), v1alpha1.ReasonServiceUnavailable) {
			told++
		}
	}
	if told > 5+4 {
		t.Errorf("%d grants have an event of their own", told)
	}
	w.service.ClearScript()
	w.advance(11 * time.Minute)
	w.pokeInstance()
	w.eventually("every grant has a new token", func() bool {
		return !slices.ContainsFunc(names, func(name string) bool { return w.grant(name).Status.Revision < 2 })
	})
}

func TestAnInstanceSaysHowLongItSurvives(t *testing.T) {
	w := readyWorld(t)
	w.issued("short", func(s *v1alpha1.MqttTokenGrantSpec) { s.Validity = "2h" })
	w.issued("longer", func(s *v1alpha1.MqttTokenGrantSpec) { s.Validity = "12h" })
	w.issued("longest", func(s *v1alpha1.MqttTokenGrantSpec) { s.Validity = "48h" })
	w.pokeInstance()
	want := w.grant("short").Status.ExpirationTime
	w.eventually("the first end and the counts", func() bool {
		s := w.getInstance().Status
		return s.SurvivesUntil.Equal(want) && ptr.Deref(s.Expiring.Within1h, -1) == 0 && ptr.Deref(s.Expiring.Within6h, -1) == 1 && ptr.Deref(s.Expiring.Within24h, -1) == 2
	})
	w.settled()
	w.requests.take()
	w.pokeInstance()
	w.settled()
	for _, request := range w.requests.take() {
		if request == "PATCH "+w.namespace+"/mqttinstances/factory/status" {
			t.Error("the status was written although nothing changed")
		}
	}
}

// TestAWrongLocalClockChangesNothing: tokens end by the service's clock, and so do decisions about them.
func TestAWrongLocalClockChangesNothing(t *testing.T) {
	for sentence, ahead := range map[string]time.Duration{
		"the service is ten minutes ahead":  10 * time.Minute,
		"the service is ten minutes behind": -10 * time.Minute,
	} {
		t.Run(sentence, func(t *testing.T) {
			w := newWorld(t)
			w.service.SetSkew(ahead)
			w.becomeReady()
			w.eventually("the skew is told", func() bool {
				return (time.Duration(ptr.Deref(w.getInstance().Status.ClockSkewSeconds, 0))*time.Second - ahead).Abs() <= 2*time.Second
			})
			w.issued("press-07", func(s *v1alpha1.MqttTokenGrantSpec) { s.Validity, s.RenewBefore, s.Overlap = "5m", "1m", "10s" })
			for range 60 { // half an hour
				w.advance(30*time.Second, "press-07")
				w.settled()
				if len(w.service.Live()) == 0 {
					t.Fatal("the token lapsed")
				}
			}
			if n := len(w.service.Calls(tokenfake.Apply)); n < 6 || n > 11 {
				t.Errorf("%d applies in half an hour with tokens of five minutes", n)
			}
		})
	}
}

func TestAClockBeyondWhatSignaturesBearIsTold(t *testing.T) {
	w := newWorld(t)
	w.service.SetSkew(20 * time.Minute)
	w.service.FailNext(tokenfake.Query, repeat(&token.Error{Kind: token.KindInstance, Op: "Query", Code: "InvalidTimeStamp.Expired", RequestID: "r"}, 1000)...)
	w.credential("LTAI-one", "secret-one")
	w.must(w.Create(t.Context(), w.instance()))
	w.run()
	w.eventuallyInstance(metav1.ConditionFalse, v1alpha1.ReasonClockSkew)
}

func TestAnInstanceInDeletionWaitsForItsGrants(t *testing.T) {
	w := readyWorld(t)
	g := w.issued("press-07")
	i := w.instance()
	w.must(w.Delete(t.Context(), i))
	w.eventuallyInstance(metav1.ConditionFalse, v1alpha1.ReasonDeleting)
	w.press("press-08")
	w.settled()
	if n := len(w.service.Calls(tokenfake.Apply)); n != 1 {
		t.Errorf("%d applies over an instance in deletion", n-1)
	}
	w.must(w.Delete(t.Context(), g))
	w.eventually("the grant is gone", func() bool { return apierrors.IsNotFound(w.Get(t.Context(), keyOf(g), g)) })
	w.eventuallyLive(0)
	w.eventually("and so is the instance", func() bool { return apierrors.IsNotFound(w.Get(t.Context(), keyOf(i), i)) })
}

// TestAnOutageMayOutliveTheInstance: the link goes out of use, and is checked although there is nothing to reconcile any
// more. Otherwise what the ledger holds would wait until it expires.
func TestAnOutageMayOutliveTheInstance(t *testing.T) {
	w := readyWorld(t)
	g, i := w.issued("press-07"), w.instance()
	w.service.FailNext(tokenfake.Revoke, repeat(unavailable(), 6)...)
	w.must(w.Delete(t.Context(), i))
	w.must(w.Delete(t.Context(), g))
	w.eventually("an attempt", func() bool { return w.revokes() > 0 })
	w.advance(2*time.Minute, g.Name)
	w.eventually("the grant is gone", func() bool { return apierrors.IsNotFound(w.Get(t.Context(), keyOf(g), g)) })
	w.eventually("and so is the instance", func() bool { return apierrors.IsNotFound(w.Get(t.Context(), keyOf(i), i)) })
	checks := len(w.service.Calls(tokenfake.Query))
	w.eventually("the token is revoked", func() bool {
		w.clock.SetTime(w.clock.Now().Add(time.Minute))
		w.pokePage(g)
		return len(w.service.Live()) == 0
	})
	w.eventuallyNoPage(g)
	if n := len(w.service.Calls(tokenfake.Query)) - checks; n == 0 || n > 2 {
		t.Errorf("%d checks of a link that went out of use once or twice", n)
	}
}

// TestInstancesOfOneAccountShareItsBudget: two of them may not apply twice as fast as one.
func TestInstancesOfOneAccountShareItsBudget(t *testing.T) {
	w := newWorld(t)
	w.credential("LTAI-one", "secret-one")
	for n, rate := range map[string]int32{"factory": 100, "another": 10} {
		i := w.instance()
		i.Name, i.Spec.Quota.ApplyPerSecond = n, rate
		w.must(w.Create(t.Context(), i))
	}
	w.run()
	w.eventuallyInstance(metav1.ConditionTrue, v1alpha1.ReasonConnected)
	w.settled()
	if id := w.getInstance().Status.AccountID; id != "LTAI-one" {
		t.Errorf("accountID is %q", id)
	}
	from := w.clock.Now()
	for n := range 30 {
		w.press(fmt.Sprintf("press-%02d", n), func(s *v1alpha1.MqttTokenGrantSpec) {
			if n%2 == 0 {
				s.InstanceRef.Name = "another"
			}
		})
	}
	w.eventuallyLive(30)
	if took := w.clock.Now().Sub(from); took < 2900*time.Millisecond {
		t.Errorf("30 applies took %s at 10 per second", took)
	}
}

// A manager that starts when an instance has been in deletion for longer than the deadline has no connection yet. It must
// not let the instance go before it had its chance to revoke over it.
func TestAnOverdueInstanceWaitsForAManagerThatHasJustStarted(t *testing.T) {
	w := newWorld(t)
	w.clock.SetTime(time.Date(2099, 5, 17, 3, 4, 5, 0, time.UTC)) // so that every deletion is overdue
	w.becomeReady()
	g := w.issued("press-07")
	w.stop()
	i := w.instance()
	w.must(w.Delete(t.Context(), i))
	w.must(w.Delete(t.Context(), g))
	w.run()
	w.eventuallyGone(i)
	w.eventuallyGone(g)
	if got := w.revokes(); got != 1 {
		t.Errorf("%d revocations, want 1", got)
	}
}
