package controllers_test

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/ledger"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token/tokenfake"
)

func (w *world) factory() types.NamespacedName {
	return types.NamespacedName{Namespace: w.namespace, Name: "factory"}
}

func TestWhatIsDueIsRevokedAndLeavesThePage(t *testing.T) {
	w := readyWorld(t)
	grant := w.ghost("gone")
	now, later := w.entry(ledger.Deleted, 0), w.entry(ledger.Narrowed, 5*time.Minute)
	w.must(w.ledger.Enter(t.Context(), grant, []ledger.Entry{now, later}, w.clock.Now()))
	if n := w.ledger.Pending(grant.UID); n != 2 {
		t.Errorf("%d pending right after entering, want 2", n)
	}
	w.eventuallyRevoked(now)
	w.eventually("a page without it", func() bool { return len(w.page(grant).Entries) == 1 })
	w.eventually("counts that follow", func() bool {
		return w.ledger.Pending(grant.UID) == 1 && w.ledger.PendingOf(w.factory()) == 1 && w.waiting.of(ledger.Deleted) == 0 && w.waiting.of(ledger.Narrowed) == 1
	})
	w.clock.SetTime(w.clock.Now().Add(4 * time.Minute))
	w.pokePage(grant)
	w.settled()
	if w.isRevoked(later.Value) || w.revokes() != 1 {
		t.Errorf("revoked before its time: %d revokes", w.revokes())
	}
	w.clock.SetTime(w.clock.Now().Add(time.Minute))
	w.pokePage(grant)
	w.eventuallyRevoked(later)
	w.eventuallyNoPage(grant)
	w.eventually("counts that follow", func() bool {
		return w.ledger.Pending(grant.UID) == 0 && w.ledger.PendingOf(w.factory()) == 0 && w.waiting.of(ledger.Narrowed) == 0
	})
}

func TestAPageComesBackByItself(t *testing.T) {
	w := readyWorld(t)
	grant := w.ghost("gone")
	e := w.entry(ledger.Narrowed, 2*time.Second)
	w.must(w.ledger.Enter(t.Context(), grant, []ledger.Entry{e}, w.clock.Now()))
	w.eventuallyNoPage(grant) // nobody pokes it
	if !w.isRevoked(e.Value) {
		t.Error("the page is gone and the token alive")
	}
}

func TestAPageSurvivesARestart(t *testing.T) {
	w := readyWorld(t)
	grant, other := w.ghost("gone"), w.ghost("other")
	e, long := w.entry(ledger.Narrowed, 10*time.Minute), w.entry(ledger.Held, time.Hour)
	w.must(w.ledger.Enter(t.Context(), grant, []ledger.Entry{e}, w.clock.Now()))
	w.must(w.ledger.Enter(t.Context(), other, []ledger.Entry{long}, w.clock.Now()))
	w.settled()
	w.stop()
	w.clock.SetTime(w.clock.Now().Add(11 * time.Minute))
	w.requests.take()
	w.run()
	w.eventuallyNoPage(grant)
	if !w.isRevoked(e.Value) || w.isRevoked(long.Value) {
		t.Errorf("the due one revoked: %v, the other: %v", w.isRevoked(e.Value), w.isRevoked(long.Value))
	}
	w.settled()
	if n := w.ledger.Pending(other.UID); n != 1 {
		t.Errorf("%d pending after the restart, want 1", n)
	}
	page := "secrets/" + ledger.Name(string(grant.UID))
	want := []string{"GET " + page, "DELETE " + page}
	got := slices.DeleteFunc(w.requests.take(), func(r string) bool { return !strings.Contains(r, "ledger") })
	for i := range got {
		got[i] = strings.Replace(got[i], w.namespace+"/", "", 1)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("requests for pages (-want +got):\n%s", diff)
	}
}

func TestAPageWaitsForALinkAndExpiresWithoutOne(t *testing.T) {
	for sentence, tc := range map[string]struct {
		entry func(*world, *ledger.Entry)
		then  func(*world)
		want  bool // revoked
	}{
		"an instance that comes": {
			then: func(w *world) {
				w.credential("LTAI-one", "secret-one")
				w.must(w.Create(w.t.Context(), w.instance()))
			},
			want: true,
		},
		"an instance of another id under the name": {
			then: func(w *world) {
				w.credential("LTAI-one", "secret-one")
				i := w.instance()
				i.Spec.InstanceID = "post-cn-other"
				w.must(w.Create(w.t.Context(), i))
				w.eventuallyInstance(metav1.ConditionTrue, v1alpha1.ReasonConnected)
				w.settled()
			},
		},
		"no instance at all": {},
		"an instance that nobody can find": {
			entry: func(_ *world, e *ledger.Entry) { e.Instance = "factory" },
			then: func(w *world) {
				w.credential("LTAI-one", "secret-one")
				w.must(w.Create(w.t.Context(), w.instance()))
				w.eventuallyInstance(metav1.ConditionTrue, v1alpha1.ReasonConnected)
				w.settled()
			},
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			w := newWorld(t)
			grant, e := w.ghost("gone"), w.entry(ledger.Deleted, 0)
			if tc.entry != nil {
				tc.entry(w, &e)
			}
			w.record(grant, e)
			w.run()
			w.settled()
			if w.revokes() != 0 || w.page(grant) == nil {
				t.Fatalf("%d revokes without a link, page %v", w.revokes(), w.page(grant))
			}
			if tc.then != nil {
				tc.then(w)
			}
			if !tc.want {
				w.clock.SetTime(e.Expires)
				w.pokePage(grant)
			}
			w.eventuallyNoPage(grant)
			if got := w.isRevoked(e.Value); got != tc.want {
				t.Errorf("revoked: %v, want %v", got, tc.want)
			}
		})
	}
}

func TestAnInstanceMayGoBeforeItsTokensAreRevoked(t *testing.T) {
	w := readyWorld(t)
	w.must(w.Delete(t.Context(), w.instance()))
	w.settled()
	grant, e := w.ghost("gone"), w.entry(ledger.Deleted, 0)
	w.must(w.ledger.Enter(t.Context(), grant, []ledger.Entry{e}, w.clock.Now()))
	w.eventuallyRevoked(e)
	w.eventuallyNoPage(grant)
}

func TestAFullPageRefuses(t *testing.T) {
	w := readyWorld(t)
	grant := w.ghost("gone")
	var entries []ledger.Entry
	for range ledger.MaxEntries {
		entries = append(entries, w.entry(ledger.Narrowed, time.Hour))
	}
	w.must(w.ledger.Enter(t.Context(), grant, entries, w.clock.Now()))
	if err := w.ledger.Enter(t.Context(), grant, []ledger.Entry{w.entry(ledger.Held, 0)}, w.clock.Now()); !errors.Is(err, ledger.ErrFull) {
		t.Errorf("got %v, want ErrFull", err)
	}
	if n := len(w.page(grant).Entries); n != ledger.MaxEntries {
		t.Errorf("%d on record", n)
	}
	w.must(w.ledger.Expedite(t.Context(), grant, ledger.Held, w.clock.Now()))
	w.eventuallyRevoked(entries[:3]...)
}

func TestWhatEnteringCosts(t *testing.T) {
	w := readyWorld(t)
	grant := w.ghost("gone")
	a, b := w.entry(ledger.Narrowed, time.Hour), w.entry(ledger.Narrowed, 2*time.Hour)
	urgent := a
	urgent.Why = ledger.Held
	lax := a
	lax.Why, lax.RevokeAt = ledger.Deleted, a.RevokeAt.Add(time.Minute)
	expired := w.entry(ledger.Held, 0)
	expired.Expires = w.clock.Now()
	enter := func(entries ...ledger.Entry) func() error {
		return func() error { return w.ledger.Enter(t.Context(), grant, entries, w.clock.Now()) }
	}
	const page = "/secrets/mqtt-ledger-uid-of-gone"
	for _, step := range []struct {
		sentence string
		do       func() error
		want     []string
	}{
		{"nothing that is alive", enter(expired), nil},
		{"expediting what is not there", func() error { return w.ledger.Expedite(t.Context(), grant, ledger.Denied, w.clock.Now()) }, nil},
		{"the first page", enter(a), []string{"POST /secrets"}},
		{"the same again", enter(a), nil},
		{"the same, later and less urgent", enter(lax), nil},
		{"one more", enter(a, b), []string{"GET " + page, "PATCH " + page}},
		{"a more urgent reason", enter(urgent), []string{"GET " + page, "PATCH " + page}},
		{"expediting", func() error {
			return w.ledger.Expedite(t.Context(), grant, ledger.Held, w.clock.Now().Add(30*time.Minute))
		}, []string{"GET " + page, "PATCH " + page}},
		{"expediting again", func() error {
			return w.ledger.Expedite(t.Context(), grant, ledger.Held, w.clock.Now().Add(30*time.Minute))
		}, nil},
	} {
		w.requests.take()
		w.must(step.do())
		w.settled()
		var got []string
		for _, r := range w.requests.take() {
			got = append(got, strings.Replace(r, w.namespace, "", 1))
		}
		if diff := cmp.Diff(step.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.sentence, diff)
		}
	}
	w.requests.take()
	w.clock.SetTime(w.clock.Now().Add(31 * time.Minute))
	w.pokePage(grant)
	w.eventuallyNoPage(grant)
	w.settled()
	if got := w.requests.take(); len(got) != 4 || w.revokes() != 2 { // a read and a write for each token
		t.Errorf("revoking the page cost %v and %d revokes", got, w.revokes())
	}
}

func TestAWriterThatKnowsAnOlderPageFails(t *testing.T) {
	w := newWorld(t)
	var intrude atomic.Bool
	grant := w.ghost("gone")
	w.wrap = func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			if r.Method == http.MethodPatch && strings.Contains(r.URL.Path, "mqtt-ledger") && intrude.CompareAndSwap(true, false) {
				w.pokePage(grant)
			}
			return next.RoundTrip(r)
		})
	}
	w.becomeReady()
	first, second := w.entry(ledger.Narrowed, time.Hour), w.entry(ledger.Narrowed, time.Hour)
	w.must(w.ledger.Enter(t.Context(), grant, []ledger.Entry{first}, w.clock.Now()))
	intrude.Store(true)
	if err := w.ledger.Enter(t.Context(), grant, []ledger.Entry{second}, w.clock.Now()); !apierrors.IsConflict(err) {
		t.Errorf("got %v, want a conflict", err)
	}
	w.must(w.ledger.Enter(t.Context(), grant, []ledger.Entry{second}, w.clock.Now()))
	if n := len(w.page(grant).Entries); n != 2 {
		t.Errorf("%d on record, want 2", n)
	}
}

func TestEnteringMeetsAPageThatTheWatchHasNotShown(t *testing.T) {
	w := readyWorld(t)
	grant := w.ghost("gone")
	first, second := w.entry(ledger.Narrowed, time.Hour), w.entry(ledger.Narrowed, time.Hour)
	w.record(grant, first)
	w.must(w.ledger.Enter(t.Context(), grant, []ledger.Entry{second}, w.clock.Now())) // at once: most likely before the watch
	if n := len(w.page(grant).Entries); n != 2 {
		t.Errorf("%d on record, want 2", n)
	}
	w.must(w.Delete(t.Context(), w.secret(ledger.Name(string(grant.UID)))))
	w.must(w.ledger.Enter(t.Context(), grant, []ledger.Entry{first, w.entry(ledger.Narrowed, time.Hour)}, w.clock.Now()))
	if n := len(w.page(grant).Entries); n != 2 {
		t.Errorf("%d on record after somebody deleted the page, want 2", n)
	}
	w.settled()
	if n := w.ledger.Pending(grant.UID); n != 2 {
		t.Errorf("%d pending, want 2", n)
	}
}

func TestAServiceThatIsDownIsTriedLess(t *testing.T) {
	w := readyWorld(t)
	grant, e := w.ghost("gone"), w.entry(ledger.Deleted, 0)
	w.service.FailNext(tokenfake.Revoke, repeat(unavailable(), 1000)...)
	w.must(w.ledger.Enter(t.Context(), grant, []ledger.Entry{e}, w.clock.Now()))
	w.eventually("an attempt", func() bool { return w.revokes() == 1 })
	w.pokePage(grant)
	w.settled()
	if n := w.revokes(); n != 1 {
		t.Errorf("%d attempts within the backoff", n)
	}
	w.clock.SetTime(w.clock.Now().Add(time.Minute))
	w.pokePage(grant)
	w.eventually("another attempt", func() bool { return w.revokes() == 2 })
	if w.page(grant) == nil {
		t.Fatal("the page is gone although nothing was revoked")
	}
	w.service.ClearScript()
	w.clock.SetTime(w.clock.Now().Add(time.Hour))
	w.pokePage(grant)
	w.eventuallyRevoked(e)
	w.eventuallyNoPage(grant)
}

func TestATokenThatTheServiceDoesNotTakeHoldsUpNoOther(t *testing.T) {
	w := readyWorld(t)
	grant, bad, good := w.ghost("gone"), w.entry(ledger.Held, 0), w.entry(ledger.Deleted, 0)
	w.service.FailNext(tokenfake.Revoke, &token.Error{Kind: token.KindInvalid, Op: "Revoke", Code: "ParameterCheckFailed", RequestID: "r"})
	w.must(w.ledger.Enter(t.Context(), grant, []ledger.Entry{bad, good}, w.clock.Now()))
	w.eventuallyRevoked(good)
	w.eventually("a page with the other", func() bool { p := w.page(grant); return p == nil || len(p.Entries) == 1 })
	w.clock.SetTime(w.clock.Now().Add(time.Minute))
	w.eventually("another try", func() bool {
		w.pokePage(grant)
		return w.isRevoked(bad.Value)
	})
	w.eventuallyNoPage(grant)
}

func TestAnInstanceFaultIsTheInstances(t *testing.T) {
	w := readyWorld(t)
	w.service.FailNext(tokenfake.Revoke, &token.Error{Kind: token.KindInstance, Op: "Revoke", Code: "InvalidAccessKeyId.NotFound", RequestID: "r"})
	w.service.FailNext(tokenfake.Query, repeat(&token.Error{Kind: token.KindInstance, Op: "Query", Code: "InvalidAccessKeyId.NotFound", RequestID: "r"}, 1)...)
	grant, e := w.ghost("gone"), w.entry(ledger.Deleted, 0)
	w.must(w.ledger.Enter(t.Context(), grant, []ledger.Entry{e}, w.clock.Now()))
	w.eventuallyInstance(metav1.ConditionFalse, v1alpha1.ReasonCredentialRefused)
	w.settled()
	if n := w.revokes(); n != 1 {
		t.Errorf("%d revokes over a link that is out of use", n)
	}
	w.clock.SetTime(w.clock.Now().Add(time.Hour))
	w.credential("LTAI-two", "secret-two")
	w.eventuallyRevoked(e) // nobody pokes the page: the instance wakes it
	w.eventuallyNoPage(grant)
}

func TestARevokeIsNotRepeatedBecauseThePageWasNotWritten(t *testing.T) {
	w := newWorld(t)
	var refuse atomic.Bool
	var refused atomic.Int32
	w.wrap = func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			if refuse.Load() && (r.Method == http.MethodPatch || r.Method == http.MethodDelete) && strings.Contains(r.URL.Path, "mqtt-ledger") {
				refused.Add(1)
				return &http.Response{StatusCode: http.StatusForbidden, Request: r, Body: http.NoBody}, nil
			}
			return next.RoundTrip(r)
		})
	}
	w.becomeReady()
	g := w.press("press-07")
	var entries []ledger.Entry
	for range 5 {
		entries = append(entries, w.entry(ledger.Deleted, 0))
	}
	refuse.Store(true)
	w.must(w.ledger.Enter(t.Context(), g, entries, w.clock.Now()))
	w.eventuallyRevoked(entries...) // all of them, although no write goes through
	w.eventually("some more refused writes", func() bool { return refused.Load() >= 4 })
	refuse.Store(false)
	w.eventuallyNoPage(g)
	if n := w.revokes(); n != len(entries) {
		t.Errorf("%d revokes for %d tokens", n, len(entries))
	}
	w.eventually("one event", func() bool { return slices.Contains(w.reasons("press-07"), v1alpha1.EventRevoked) })
}

func TestTheGrantIsToldOnce(t *testing.T) {
	w := readyWorld(t)
	w.issued("press-07")
	g := w.grant("press-07")
	var entries []ledger.Entry
	for range 5 { // two bursts
		entries = append(entries, w.entry(ledger.Narrowed, 0))
	}
	w.must(w.ledger.Enter(t.Context(), g, entries, w.clock.Now()))
	w.eventuallyNoPage(g)
	told := func() int {
		return len(slices.DeleteFunc(w.reasons("press-07"), func(r string) bool { return r != v1alpha1.EventRevoked }))
	}
	w.eventually("the event", func() bool { return told() == 1 })
	w.settled()
	if n := told(); n != 1 {
		t.Errorf("%d events", n)
	}
}

func TestADamagedPageIsToldAndKept(t *testing.T) {
	for sentence, tc := range map[string]struct {
		damage func(*corev1.Secret)
		// wantRevoked says whether the token that is due can still be revoked.
		wantRevoked bool
		wantTold    string
	}{
		"the facts are gone": {
			damage: func(s *corev1.Secret) { delete(s.Annotations, ledger.FactsAnnotation) }, wantRevoked: true,
		},
		"the facts are nonsense": {
			damage: func(s *corev1.Secret) { s.Annotations[ledger.FactsAnnotation] = `{"v":1}` }, wantRevoked: true,
		},
		"the tokens are gone": {
			damage: func(s *corev1.Secret) { s.Data = nil }, wantTold: "2 token(s) that are alive have lost their text",
		},
		"the tokens are cut off in the middle": {
			damage: func(s *corev1.Secret) {
				s.Data["entries.json"] = s.Data["entries.json"][:len(s.Data["entries.json"])-20]
			},
			wantRevoked: true, wantTold: "1 token(s) that are alive have lost their text, 1 piece(s)",
		},
		"it was made immutable": {damage: func(s *corev1.Secret) { s.Immutable = new(true) }, wantRevoked: true},
	} {
		t.Run(sentence, func(t *testing.T) {
			w := readyWorld(t)
			grant := w.ghost("gone")
			e, other := w.entry(ledger.Narrowed, time.Minute), w.entry(ledger.Narrowed, 2*time.Minute)
			w.must(w.ledger.Enter(t.Context(), grant, []ledger.Entry{e, other}, w.clock.Now()))
			s := w.secret(ledger.Name(string(grant.UID)))
			w.edit(s, func() { tc.damage(s) })
			w.settled()
			if n := w.ledger.Pending(grant.UID); n != 2 {
				t.Errorf("%d pending", n)
			}
			w.clock.SetTime(w.clock.Now().Add(90 * time.Second))
			w.pokePage(grant)
			w.eventually("a repaired page, or a revoked token", func() bool {
				p := w.page(grant)
				return w.isRevoked(e.Value) && tc.wantRevoked || !tc.wantRevoked && p != nil && len(p.Lost) == 2
			})
			w.settled()
			if w.page(grant) == nil {
				t.Fatal("the page is gone although a token on it is alive")
			}
			for range 3 {
				w.pokePage(grant)
				w.settled()
			}
			if told := strings.Count(w.logs.text(), "is damaged"); (told == 1) != (tc.wantTold != "") || !strings.Contains(w.logs.text(), tc.wantTold) {
				t.Errorf("told %d times, want %q", told, tc.wantTold)
			}
			w.clock.SetTime(other.Expires)
			w.pokePage(grant)
			w.eventuallyNoPage(grant)
			if strings.Contains(w.logs.text(), e.Value.Reveal()) {
				t.Error("the log tells a token")
			}
		})
	}
}

// inUse is a grant with a Secret, whose token in use is on record as one that must go.
func (w *world) inUse(why ledger.Why) (*v1alpha1.MqttTokenGrant, ledger.Entry) {
	w.t.Helper()
	w.issued("press-07")
	issued := w.service.Issued()
	e := w.entry(why, 0)
	e.Value = issued[len(issued)-1].Value
	return w.grant("press-07"), e
}

func TestATokenThatAClientStillNeedsIsPutOffForAWhile(t *testing.T) {
	for _, why := range []ledger.Why{ledger.Narrowed, ledger.Surplus, ledger.Compromised, ledger.Reissued} {
		t.Run(string(why), func(t *testing.T) {
			w := readyWorld(t)
			g, e := w.inUse(why)
			w.must(w.ledger.Enter(t.Context(), g, []ledger.Entry{e}, w.clock.Now()))
			w.settled()
			w.clock.SetTime(e.RevokeAt.Add(10*time.Minute - time.Second))
			w.pokePage(g)
			w.settled()
			if n := w.revokes(); n != 0 {
				t.Errorf("%d revokes of a token in use", n)
			}
			w.clock.SetTime(e.RevokeAt.Add(10 * time.Minute))
			w.pokePage(g)
			w.eventuallyRevoked(e)
		})
	}
}

func TestATokenIsRevokedAsSoonAsItsSecretOffersAnother(t *testing.T) {
	w := readyWorld(t)
	g, e := w.inUse(ledger.Reissued)
	w.must(w.ledger.Enter(t.Context(), g, []ledger.Entry{e}, w.clock.Now()))
	w.settled()
	w.edit(g, func() { metav1.SetMetaDataAnnotation(&g.ObjectMeta, v1alpha1.ReissueAnnotation, "now") })
	w.eventuallyRevoked(e) // nobody pokes the page: the Secret wakes it
	w.eventuallyNoPage(g)
}

// TestNothingPutsOffWhatIsCutOff: whoever freezes the Secret gains no time by that.
func TestNothingPutsOffWhatIsCutOff(t *testing.T) {
	for _, why := range []ledger.Why{ledger.Held, ledger.Denied, ledger.Deleted} {
		t.Run(string(why), func(t *testing.T) {
			w := readyWorld(t)
			g, e := w.inUse(why)
			w.must(w.ledger.Enter(t.Context(), g, []ledger.Entry{e}, w.clock.Now()))
			w.eventuallyRevoked(e)
		})
	}
}

func TestPagesOfManyGrantsKeepTheQuota(t *testing.T) {
	w := newWorld(t)
	w.credential("LTAI-one", "secret-one")
	w.must(w.Create(t.Context(), w.instance()))
	const pages = 8
	var entries []ledger.Entry
	for n := range pages {
		e := w.entry(ledger.Deleted, 0)
		entries = append(entries, e)
		w.record(w.ghost(fmt.Sprintf("gone-%d", n)), e)
	}
	before := w.clock.Now()
	w.run()
	w.eventuallyRevoked(entries...)
	if took := w.clock.Now().Sub(before); took < (pages-1)*250*time.Millisecond {
		t.Errorf("%d revokes at 4 a second took %v", pages, took)
	}
}
