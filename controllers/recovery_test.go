package controllers_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/credsecret"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token/tokenfake"
	"github.com/mqtt-token-operator/mqtt-token-operator/pkg/mqttcred"
)

// twoTopics is a grant that can lose one.
func twoTopics(s *v1alpha1.MqttTokenGrantSpec) {
	publish := []v1alpha1.Action{v1alpha1.ActionPublish}
	s.Topics = []v1alpha1.TopicPermission{{Filter: "factory/a", Actions: publish}, {Filter: "factory/b", Actions: publish}}
}

// narrowed has a second token and a first one that must be revoked.
func (w *world) narrowed(name string) {
	w.t.Helper()
	w.issued(name, twoTopics)
	g := w.grant(name)
	w.edit(g, func() { g.Spec.Topics = g.Spec.Topics[:1] })
	w.eventually("the narrower token", func() bool { return w.grant(name).Status.Revision == 2 })
	w.settled()
}

func TestDueRevocationsDoNotWaitForNewTokens(t *testing.T) {
	for sentence, obstruct := range map[string]func(*world){
		"while the service issues nothing": func(w *world) {
			w.service.FailNext(tokenfake.Apply, repeat(unavailable(), 1000)...)
			g := w.grant("press-07")
			w.edit(g, func() { metav1.SetMetaDataAnnotation(&g.ObjectMeta, v1alpha1.ReissueAnnotation, "x") })
			w.eventually("a failed attempt", func() bool { return w.grant("press-07").Status.FailedAttempts == 1 })
		},
		"while the template is broken": func(w *world) {
			g := w.grant("press-07")
			w.edit(g, func() {
				twoTopics(&g.Spec)
				g.Spec.Secret.Template = map[string]string{"x": "{{.Nope}}"}
			})
			w.eventuallyCondition("press-07", v1alpha1.ReadyCondition, metav1.ConditionFalse, v1alpha1.ReasonTemplateInvalid)
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			w := readyWorld(t)
			w.narrowed("press-07")
			obstruct(w)
			w.service.FailNext(tokenfake.Revoke, unavailable())
			w.advance(6*time.Minute, "press-07")
			w.eventually("a failed revocation", func() bool { return len(w.service.Calls(tokenfake.Revoke)) == 1 })
			w.clock.SetTime(w.clock.Now().Add(time.Hour)) // and no poke
			w.eventually("another try, which works", func() bool { return len(w.service.Calls(tokenfake.Revoke)) == 2 })
		})
	}
}

func TestAMoveToAnotherInstanceEnds(t *testing.T) {
	w := readyWorld(t)
	w.issued("press-07")
	i := w.instance()
	i.Name, i.Spec.InstanceID = "another", "post-cn-other"
	w.must(w.Create(t.Context(), i))
	g := w.grant("press-07")
	w.edit(g, func() { g.Spec.InstanceRef.Name = "another" })
	w.eventually("a token of the other instance", func() bool { return w.grant("press-07").Status.Revision == 2 })
	if username := string(w.secret("press-07").Data[mqttcred.KeyUsername]); username != "Token|LTAI-one|post-cn-other" {
		t.Errorf("the username is %q", username)
	}
	w.advance(6*time.Minute, "press-07")
	w.eventuallyLive(1) // the token of the first instance is revoked over that one's link
	w.eventually("nothing is left to revoke", func() bool { return w.grant("press-07").Status.PendingRevocations == 0 })
	w.settled() // a loop would never settle
}

// held is a service whose checks wait.
type held struct {
	token.Service
	instance string
	door     *sync.RWMutex
	applied  func(instance string)
}

func (h held) Query(ctx context.Context, value token.Value) (bool, error) {
	h.door.RLock()
	defer h.door.RUnlock()
	return h.Service.Query(ctx, value)
}

func (h held) Apply(ctx context.Context, scope token.Scope, expires time.Time) (token.Value, error) {
	h.applied(h.instance)
	return h.Service.Apply(ctx, scope, expires)
}

// TestARecreatedInstanceGetsTokensOfItsOwn: until the new instance is checked, the old one's link must not serve it.
func TestARecreatedInstanceGetsTokensOfItsOwn(t *testing.T) {
	w := newWorld(t)
	var door sync.RWMutex
	var mu sync.Mutex
	var applied []string
	inner := w.dial
	w.dial = func(c token.Connection) (token.Service, error) {
		service, err := inner(c)
		return held{service, c.InstanceID, &door, func(instance string) {
			mu.Lock()
			defer mu.Unlock()
			applied = append(applied, instance)
		}}, err
	}
	w.becomeReady()
	w.issued("press-07")
	w.deleteInstance()
	door.Lock()
	i := w.instance()
	i.Spec.InstanceID = "post-cn-new"
	w.must(w.Create(t.Context(), i))
	w.settled()
	door.Unlock()
	w.eventually("new tokens", func() bool { return w.grant("press-07").Status.Revision == 2 })
	w.settled()
	mu.Lock()
	defer mu.Unlock()
	if want := []string{"post-cn-test", "post-cn-new"}; !slices.Equal(applied, want) {
		t.Errorf("applied for at %v, want %v", applied, want)
	}
}

// TestForgedFactsBuyLittle is a tenant whom no rule allows anything, with a Secret made to look like ours.
func TestForgedFactsBuyLittle(t *testing.T) {
	w := newWorld(t)
	w.credential("LTAI-one", "secret-one")
	i := w.instance()
	i.Spec.AccessRules = nil
	w.must(w.Create(t.Context(), i))
	w.run()
	g := w.press("evil")
	w.eventuallyCondition("evil", v1alpha1.ReadyCondition, metav1.ConditionFalse, v1alpha1.ReasonNamespaceNotAllowed)
	facts := credsecret.Facts{Version: 1, Client: "post-cn-test/x", KeyID: "LTAI-x", Scope: token.ScopeID(nil)}
	var retired []mqttcred.RetiredToken
	expires := start().Add(24 * time.Hour)
	for n := range 300 {
		text, revokeAt := fmt.Sprintf("any-text-%d", n), start()
		retired = append(retired, mqttcred.RetiredToken{
			Token:  mqttcred.Token{Type: "W", Token: text, IssuedAt: start(), ExpiresAt: expires},
			Topics: []string{"a"}, Client: "post-cn-test/x", RevokeAt: &revokeAt,
		})
		fingerprint := token.NewValue(text).Fingerprint(string(g.UID))
		facts.Retired = append(facts.Retired, credsecret.RetiredFacts{Expires: expires, RevokeAt: revokeAt, Fingerprint: fingerprint})
	}
	retiredText, err := json.Marshal(retired)
	w.must(err)
	factsText, err := json.Marshal(facts)
	w.must(err)
	w.must(w.Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: w.namespace, Name: "evil", Annotations: map[string]string{credsecret.FactsAnnotation: string(factsText)},
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(g, v1alpha1.GroupVersion().WithKind("MqttTokenGrant"))},
		},
		Type: credsecret.Type, Data: map[string][]byte{mqttcred.KeyTokens: []byte("[]"), mqttcred.KeyPermissions: []byte("[]"), mqttcred.KeyRetired: retiredText},
	}))
	w.settled()
	if n := len(w.service.Calls(tokenfake.Revoke, tokenfake.Apply)); n > credsecret.MaxRetired {
		t.Errorf("%d calls for a grant that is allowed nothing", n)
	}
}

func TestADeletionWithoutALinkEndsWithItsTokens(t *testing.T) {
	w := readyWorld(t)
	g := w.issued("press-07", func(s *v1alpha1.MqttTokenGrantSpec) { s.Validity, s.RenewBefore = "2m", "10s" })
	w.must(w.Delete(t.Context(), w.instance()))
	w.settled()
	w.run() // no link survives a restart
	g = w.grant(g.Name)
	w.edit(g, func() { g.Spec.Topics[0].Filter = "factory/c" })
	w.settled()
	w.clock.SetTime(g.Status.ExpirationTime.Add(-2 * time.Second))
	w.must(w.Delete(t.Context(), g))
	w.eventually("it goes when its tokens have ended, without a poke", func() bool { return apierrors.IsNotFound(w.Get(t.Context(), keyOf(g), g)) })
}

func TestAClockThatWasAheadParksNobody(t *testing.T) {
	w := newWorld(t)
	w.clock.SetTime(start().Add(10000 * time.Hour))
	w.becomeReady()
	w.service.FailNext(tokenfake.Apply, unavailable())
	w.press("press-07")
	w.eventuallyCondition("press-07", v1alpha1.ReadyCondition, metav1.ConditionFalse, v1alpha1.ReasonServiceUnavailable)
	w.stop()
	w.clock.SetTime(start())
	w.run()
	w.eventuallyCondition("press-07", v1alpha1.ReadyCondition, metav1.ConditionTrue, v1alpha1.ReasonIssued)
}

func TestAnAPIServerThatStumblesLeavesTheStatusAlone(t *testing.T) {
	for sentence, tc := range map[string]struct {
		answer      func(*http.Request) (*http.Response, error)
		wantRenewed metav1.ConditionStatus
	}{
		"a lost connection is the queue's": {
			answer:      func(*http.Request) (*http.Response, error) { return nil, errors.New("connection reset") },
			wantRenewed: metav1.ConditionTrue,
		},
		"a Secret that may not be read is told": {
			answer: func(r *http.Request) (*http.Response, error) {
				return &http.Response{StatusCode: http.StatusForbidden, Request: r, Body: http.NoBody}, nil
			},
			wantRenewed: metav1.ConditionFalse,
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			w := newWorld(t)
			var fail atomic.Bool
			var attempts atomic.Int32
			w.wrap = func(next http.RoundTripper) http.RoundTripper {
				return roundTripper(func(r *http.Request) (*http.Response, error) {
					if fail.Load() && r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/secrets/press-07") {
						attempts.Add(1)
						return tc.answer(r)
					}
					return next.RoundTrip(r)
				})
			}
			w.becomeReady()
			w.issued("press-07")
			fail.Store(true)
			w.advance(17*time.Hour, "press-07")
			w.eventually("an attempt to read", func() bool { return attempts.Load() > 0 })
			w.eventually("what it leads to", func() bool { return w.condition("press-07", v1alpha1.RenewedCondition).Status == tc.wantRenewed })
			g := w.grant("press-07")
			if c := w.condition("press-07", v1alpha1.ReadyCondition); c.Status != metav1.ConditionTrue || len(g.Status.Tokens) != 1 {
				t.Errorf("Ready=%s/%s with %d tokens told, while the token is valid", c.Status, c.Reason, len(g.Status.Tokens))
			}
		})
	}
}

func TestAnImmutableSecretIsKeptAndTold(t *testing.T) {
	w := readyWorld(t)
	w.issued("press-07")
	s := w.secret("press-07")
	w.edit(s, func() { s.Immutable = new(true) })
	w.advance(17*time.Hour, "press-07")
	w.eventuallyCondition("press-07", v1alpha1.StalledCondition, metav1.ConditionTrue, v1alpha1.ReasonSecretUnwritable)
	if c := w.condition("press-07", v1alpha1.ReadyCondition); c.Status != metav1.ConditionTrue || !sameBytes(s.Data, w.secret("press-07").Data) {
		t.Errorf("the last good Secret did not survive: %s", c.Message)
	}
	if n := len(w.service.Calls(tokenfake.Apply)); n != 1 {
		t.Errorf("%d applies for a Secret that cannot be written", n)
	}
	w.must(w.Delete(t.Context(), s))
	w.eventuallyCondition("press-07", v1alpha1.RenewedCondition, metav1.ConditionTrue, v1alpha1.ReasonIssued)
	w.eventually("no complaint", func() bool { return w.condition("press-07", v1alpha1.StalledCondition).Status == "" })
}

// TestAKeyThatMayNotApplyIsToldWithoutFlapping: the check passes, the work does not, and Ready must not follow each.
func TestAKeyThatMayNotApplyIsToldWithoutFlapping(t *testing.T) {
	w := readyWorld(t)
	w.service.FailNext(tokenfake.Apply, repeat(&token.Error{Kind: token.KindInstance, Op: "Apply", Code: "NoPermission", RequestID: "r"}, 2)...)
	w.press("press-07")
	w.eventuallyInstance(metav1.ConditionFalse, v1alpha1.ReasonCredentialRefused)
	w.eventually("the service gives in, after some refusals", func() bool {
		w.clock.SetTime(w.clock.Now().Add(100 * time.Millisecond))
		c := w.condition("press-07", v1alpha1.ReadyCondition)
		return c.Status == metav1.ConditionTrue
	})
	w.eventuallyInstance(metav1.ConditionTrue, v1alpha1.ReasonConnected)
	w.settled()
	if n := w.events("factory"); n != 3 {
		t.Errorf("%d events on the instance, want connected, refused and recovered", n)
	}
}

func TestAnExpiryIsWordedOnce(t *testing.T) {
	w := readyWorld(t)
	w.issued("press-07")
	w.service.FailNext(tokenfake.Apply, repeat(unavailable(), 1000)...)
	w.advance(25*time.Hour, "press-07")
	w.eventuallyCondition("press-07", v1alpha1.ReadyCondition, metav1.ConditionFalse, v1alpha1.ReasonExpired)
	w.settled()
	want, events := w.condition("press-07", v1alpha1.ReadyCondition).Message, w.events("press-07")
	for range 3 {
		w.poke("press-07") // during the backoff
		w.settled()
		w.advance(11*time.Minute, "press-07") // the next attempt
		w.settled()
		if got := w.condition("press-07", v1alpha1.ReadyCondition).Message; got != want {
			t.Errorf("the message changed from\n  %s\nto\n  %s", want, got)
		}
	}
	if n := w.events("press-07"); n != events {
		t.Errorf("%d more events for the same problem", n-events)
	}
}

func TestAGrantThatIsReissuedAllTheTimeDoesNotOutgrowItsSecret(t *testing.T) {
	w := readyWorld(t)
	w.issued("press-07", func(s *v1alpha1.MqttTokenGrantSpec) { s.Validity = "720h" })
	for n := range 40 {
		w.clock.SetTime(w.clock.Now().Add(time.Minute))
		g := w.grant("press-07")
		w.edit(g, func() {
			metav1.SetMetaDataAnnotation(&g.ObjectMeta, v1alpha1.ReissueAnnotation, strings.Repeat("x", 1000+n))
		})
		w.eventually("another revision", func() bool { return w.grant("press-07").Status.Revision == int64(n+2) })
	}
	w.eventually("the oldest are revoked and off the record", func() bool { return len(w.retired("press-07")) == 32 })
	w.eventuallyLive(1 + 32)
}

func TestAKeyThatMayNotRevokeStillIssues(t *testing.T) {
	w := readyWorld(t)
	g := w.issued("press-07")
	w.service.FailNext(tokenfake.Revoke, repeat(&token.Error{Kind: token.KindInstance, Op: "Revoke", Code: "NoPermission", RequestID: "r"}, 1000)...)
	w.must(w.Delete(t.Context(), g))
	w.eventuallyInstance(metav1.ConditionFalse, v1alpha1.ReasonCredentialRefused)
	w.poke("press-07")
	w.eventually("a second refusal, after which the check has to wait", func() bool { return len(w.service.Calls(tokenfake.Revoke)) >= 2 })
	w.press("press-08")
	w.eventuallyCondition("press-08", v1alpha1.ReadyCondition, metav1.ConditionTrue, v1alpha1.ReasonIssued)
}
