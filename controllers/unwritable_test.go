package controllers_test

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/credsecret"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/ledger"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token/tokenfake"
)

// TestATokenIsRevokedOnce, although the Secret goes on offering it because it cannot be written.
func TestATokenIsRevokedOnce(t *testing.T) {
	for sentence, act := range map[string]func(*world){
		"held in a Secret that is immutable": func(w *world) {
			s := w.secret("press-07")
			w.edit(s, func() { s.Immutable = new(true) })
			w.annotate("press-07", v1alpha1.HoldAnnotation, "leak")
		},
		"held when its instance is gone": func(w *world) {
			w.deleteInstance()
			w.annotate("press-07", v1alpha1.HoldAnnotation, "leak")
		},
		"moved to an instance that does not exist, and deleted": func(w *world) {
			g := w.grant("press-07")
			w.edit(g, func() { g.Spec.InstanceRef.Name = "elsewhere" })
			w.settled()
			w.must(w.Delete(w.t.Context(), g))
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			w := readyWorld(t)
			w.issued("press-07")
			act(w)
			w.eventuallyLive(0)
			w.settled() // a loop would never settle
			if n := w.revokes(); n != 1 {
				t.Errorf("%d revokes of one token", n)
			}
		})
	}
}

// TestAnImmutableSecretIsNotReadyWithWhatWasRevoked, once the hold is over.
func TestAnImmutableSecretIsNotReadyWithWhatWasRevoked(t *testing.T) {
	w := readyWorld(t)
	w.issued("press-07")
	s := w.secret("press-07")
	w.edit(s, func() { s.Immutable = new(true) })
	w.annotate("press-07", v1alpha1.HoldAnnotation, "leak")
	w.eventuallyLive(0)
	w.unannotate("press-07", v1alpha1.HoldAnnotation)
	w.eventuallyCondition("press-07", v1alpha1.ReadyCondition, metav1.ConditionFalse, v1alpha1.ReasonSecretUnwritable)
}

// TestStrippedFactsHideNothing: the payload still says what lives.
func TestStrippedFactsHideNothing(t *testing.T) {
	for sentence, act := range map[string]func(*world){
		"from a deletion": func(w *world) { w.must(w.Delete(w.t.Context(), w.grant("press-07"))) },
		"from a hold":     func(w *world) { w.annotate("press-07", v1alpha1.HoldAnnotation, "leak") },
	} {
		t.Run(sentence, func(t *testing.T) {
			w := readyWorld(t)
			w.issued("press-07")
			g := w.grant("press-07")
			w.edit(g, func() { g.Spec.Suspend = new(true) }) // nothing repairs it
			w.settled()
			s := w.secret("press-07")
			w.edit(s, func() { delete(s.Annotations, credsecret.FactsAnnotation) })
			w.settled()
			act(w)
			w.eventuallyLive(0)
		})
	}
}

// TestStrippedFactsHideNothingFromANewManager, which has not connected yet when it finds that a client is to be cut off.
func TestStrippedFactsHideNothingFromANewManager(t *testing.T) {
	w := readyWorld(t)
	w.issued("press-07")
	w.stop()
	s := w.secret("press-07")
	w.edit(s, func() { delete(s.Annotations, credsecret.FactsAnnotation) })
	w.annotate("press-07", v1alpha1.HoldAnnotation, "leak")
	w.must(w.Delete(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "factory-ak"}}))
	w.run()
	w.eventuallyCondition("press-07", v1alpha1.HeldCondition, metav1.ConditionTrue, v1alpha1.ReasonHeld)
	w.eventually("its token is in the ledger", func() bool { return w.page(w.grant("press-07")) != nil })
	w.credential("LTAI-one", "secret-one")
	w.eventuallyLive(0)
}

// TestANarrowingThatIsTakenBackLeavesNoRevokedToken: the Secret could not be written in between.
func TestANarrowingThatIsTakenBackLeavesNoRevokedToken(t *testing.T) {
	w := newWorld(t)
	var refuse atomic.Bool
	w.wrap = func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			if refuse.Load() && r.Method == http.MethodPatch && strings.HasSuffix(r.URL.Path, "/secrets/press-07") {
				return &http.Response{StatusCode: http.StatusForbidden, Header: http.Header{"Content-Type": {"application/json"}}, Request: r, Body: http.NoBody}, nil
			}
			return next.RoundTrip(r)
		})
	}
	w.becomeReady()
	w.issued("press-07")
	first := w.service.Issued()[0].Value
	refuse.Store(true)
	g := w.grant("press-07")
	w.edit(g, func() { g.Spec.Topics[0].Filter = "factory/other" })
	w.eventually("the old token is in the ledger", func() bool { return w.page(g) != nil })
	w.settled()
	refuse.Store(false)
	g = w.grant("press-07")
	w.edit(g, func() { g.Spec.Topics[0].Filter = "factory/press-07" })
	w.settled()
	for range 4 {
		w.advance(5*time.Minute, "press-07")
		w.settled()
	}
	if w.isRevoked(first) && strings.Contains(string(w.secret("press-07").Data["password"]), first.Reveal()) {
		t.Error("the Secret offers a token that was revoked")
	}
	w.eventuallyCondition("press-07", v1alpha1.ReadyCondition, metav1.ConditionTrue, v1alpha1.ReasonIssued)
}

// TestAFullPageHoldsNoDeletionForEver: the Secret keeps its finalizer, and the grant goes.
func TestAFullPageHoldsNoDeletionForEver(t *testing.T) {
	w := readyWorld(t)
	w.issued("press-07")
	g := w.grant("press-07")
	w.service.FailNext(tokenfake.Revoke, repeat(unavailable(), 10_000)...)
	var entries []ledger.Entry
	for range ledger.MaxEntries {
		entries = append(entries, w.entry(ledger.Narrowed, time.Hour))
	}
	w.must(w.ledger.Enter(t.Context(), g, entries, w.clock.Now()))
	w.must(w.Delete(t.Context(), g))
	w.settled()
	w.advance(3*time.Minute, "press-07")
	w.eventually("the grant is gone", func() bool { return apierrors.IsNotFound(w.Get(t.Context(), keyOf(g), g)) })
}
