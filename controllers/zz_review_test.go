package controllers_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/credsecret"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token/tokenfake"
)

func (w *world) idle(d time.Duration) int {
	w.requests.take()
	time.Sleep(d)
	reqs := w.requests.take()
	if len(reqs) > 8 {
		reqs = append(reqs[:8], fmt.Sprint("... of ", len(reqs)))
	}
	w.t.Log(strings.Join(reqs, "\n"))
	return len(reqs)
}

func (w *world) showEvents(name string) {
	var list corev1.EventList
	w.must(w.List(context.Background(), &list, client.InNamespace(w.namespace)))
	for _, e := range list.Items {
		if e.InvolvedObject.Name == name {
			n := e.Count
			if e.Series != nil {
				n = e.Series.Count
			}
			w.t.Logf("event x%d %s %s: %s", n, e.Type, e.Reason, e.Message)
		}
	}
}

// moved to another instance: hot loop?
func TestZZMoved(t *testing.T) {
	w := readyWorld(t)
	w.issued("press-07")
	i := w.instance()
	i.Name, i.Spec.InstanceID = "factory2", "post-cn-other"
	w.must(w.Create(t.Context(), i))
	time.Sleep(time.Second)
	g := w.grant("press-07")
	w.edit(g, func() { g.Spec.InstanceRef.Name = "factory2" })
	w.eventually("2 applies", func() bool { return len(w.service.Calls(tokenfake.Apply)) == 2 })
	w.settled()
	w.advance(6*time.Minute, "press-07")
	time.Sleep(time.Second)
	n := w.idle(6 * time.Second)
	w.showEvents("press-07")
	t.Logf("%d requests in 6 s; revokes %d; pending %d", n, len(w.service.Calls(tokenfake.Revoke)), w.grant("press-07").Status.PendingRevocations)
}

type slowQuery struct {
	token.Service
	id    string
	hold  *atomic.Bool
	calls *[]string
}

func (s slowQuery) Query(ctx context.Context, v token.Value) (bool, error) {
	for s.hold.Load() && ctx.Err() == nil {
		time.Sleep(10 * time.Millisecond)
	}
	return s.Service.Query(ctx, v)
}
func (s slowQuery) Apply(ctx context.Context, sc token.Scope, e time.Time) (token.Value, error) {
	*s.calls = append(*s.calls, s.id)
	return s.Service.Apply(ctx, sc, e)
}

func TestZZRecreated(t *testing.T) {
	w := newWorld(t)
	var hold atomic.Bool
	var calls []string
	inner := w.service.Dialer()
	w.dial = func(c token.Connection) (token.Service, error) {
		s, err := inner(c)
		return slowQuery{s, c.InstanceID, &hold, &calls}, err
	}
	w.becomeReady()
	w.issued("press-07")
	i := w.instance()
	w.must(w.Delete(t.Context(), i))
	w.settled()
	hold.Store(true)
	i = w.instance()
	i.Spec.InstanceID = "post-cn-new"
	w.must(w.Create(t.Context(), i))
	time.Sleep(time.Second)
	hold.Store(false)
	w.settled()
	t.Logf("applied over links of %v; username %s", calls, w.secret("press-07").Data["username"])
	c := w.condition("press-07", "Ready")
	t.Logf("%s %s %s", c.Status, c.Reason, c.Message)
}

func TestZZRecreatedNoHold(t *testing.T) {
	w := newWorld(t)
	var hold atomic.Bool
	var calls []string
	inner := w.service.Dialer()
	w.dial = func(c token.Connection) (token.Service, error) {
		s, err := inner(c)
		return slowQuery{s, c.InstanceID, &hold, &calls}, err
	}
	w.becomeReady()
	w.issued("press-07")
	w.must(w.Delete(t.Context(), w.instance()))
	w.settled()
	i := w.instance()
	i.Spec.InstanceID = "post-cn-new"
	w.must(w.Create(t.Context(), i))
	w.settled()
	t.Logf("applied over links of %v; username %s", calls, w.secret("press-07").Data["username"])
}

func TestZZDoubled(t *testing.T) {
	w := readyWorld(t)
	w.issued("press-07")
	w.service.FailNext(tokenfake.Apply, repeat(unavailable(), 1000)...)
	w.advance(25*time.Hour, "press-07")
	w.eventuallyCondition("press-07", "Ready", metav1.ConditionFalse, "Expired")
	for range 4 {
		w.settled()
		c := w.condition("press-07", "Ready")
		t.Logf("%s: %s", c.Reason, c.Message)
		w.poke("press-07")
		w.settled()
		c = w.condition("press-07", "Ready")
		t.Logf("backoff: %s: %s", c.Reason, c.Message)
		w.advance(11*time.Minute, "press-07")
	}
	w.showEvents("press-07")
}

func TestZZStarvedRevocation(t *testing.T) {
	w := readyWorld(t)
	both := []v1alpha1.TopicPermission{{Filter: "factory/a", Actions: []v1alpha1.Action{"Publish"}}, {Filter: "factory/b", Actions: []v1alpha1.Action{"Publish"}}}
	g := w.issued("press-07", func(s *v1alpha1.MqttTokenGrantSpec) { s.Topics = both })
	g = w.grant("press-07")
	w.edit(g, func() { g.Spec.Topics = both[:1] })
	w.eventually("2 applies", func() bool { return len(w.service.Calls(tokenfake.Apply)) == 2 })
	w.settled()
	w.service.FailNext(tokenfake.Apply, repeat(unavailable(), 1000)...)
	g = w.grant("press-07")
	w.edit(g, func() { metav1.SetMetaDataAnnotation(&g.ObjectMeta, v1alpha1.ReissueAnnotation, "x") })
	w.eventually("3 applies", func() bool { return len(w.service.Calls(tokenfake.Apply)) == 3 })
	for range 12 {
		w.settled()
		g = w.grant("press-07")
		if g.Status.NextAttemptTime == nil {
			t.Fatal("no next attempt")
		}
		if at := g.Status.NextAttemptTime.Time; at.After(w.clock.Now()) {
			w.clock.SetTime(at)
		}
		w.poke("press-07")
	}
	w.settled()
	t.Logf("now %s after start; applies %d; revokes %d; pending %d", w.clock.Now().Sub(start()), len(w.service.Calls(tokenfake.Apply)), len(w.service.Calls(tokenfake.Revoke)), w.grant("press-07").Status.PendingRevocations)
}

func TestZZTemplateHoldsRevocation(t *testing.T) {
	w := readyWorld(t)
	both := []v1alpha1.TopicPermission{{Filter: "factory/a", Actions: []v1alpha1.Action{"Publish"}}, {Filter: "factory/b", Actions: []v1alpha1.Action{"Publish"}}}
	w.issued("press-07", func(s *v1alpha1.MqttTokenGrantSpec) { s.Topics = both })
	g := w.grant("press-07")
	w.edit(g, func() { g.Spec.Topics = both[:1] })
	w.eventually("2 applies", func() bool { return len(w.service.Calls(tokenfake.Apply)) == 2 })
	w.settled()
	g = w.grant("press-07")
	w.edit(g, func() { g.Spec.Topics = both; g.Spec.Secret.Template = map[string]string{"x": "{{.Nope}}"} })
	w.eventuallyCondition("press-07", "Ready", metav1.ConditionFalse, "TemplateInvalid")
	for range 5 {
		w.advance(time.Hour, "press-07")
		w.settled()
	}
	t.Logf("revokes %d; pending %d", len(w.service.Calls(tokenfake.Revoke)), w.grant("press-07").Status.PendingRevocations)
}

// a tenant whom no rule allows anything forges a Secret for a denied grant.
func TestZZForged(t *testing.T) {
	w := newWorld(t)
	w.credential("LTAI-one", "secret-one")
	i := w.instance()
	i.Spec.AccessRules[0].Namespaces = v1alpha1.RuleNamespaces{From: v1alpha1.NamespacesSelector, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"no": "one"}}}
	w.must(w.Create(t.Context(), i))
	w.run()
	w.eventuallyInstance(metav1.ConditionTrue, v1alpha1.ReasonConnected)
	g := w.press("evil")
	w.eventuallyCondition("evil", "Ready", metav1.ConditionFalse, "NamespaceNotAllowed")
	const n = 300
	type m = map[string]any
	var retired []m
	var facts credsecret.Facts
	facts.Version, facts.Client, facts.KeyID, facts.Scope = 1, "post-cn-test/x", "LTAI-x", token.ScopeID(nil)
	exp := start().Add(24 * time.Hour)
	for k := range n {
		text := fmt.Sprintf("any-text-%d", k)
		retired = append(retired, m{"type": "W", "token": text, "issuedAt": start(), "expiresAt": exp, "topics": []string{"a"}, "client": "post-cn-test/x", "revokeAt": start()})
		facts.Retired = append(facts.Retired, credsecret.RetiredFacts{Expires: exp, RevokeAt: start(), Fingerprint: token.NewValue(text).Fingerprint(string(g.UID))})
	}
	r, _ := json.Marshal(retired)
	f, _ := json.Marshal(facts)
	begin := time.Now()
	w.must(w.Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "evil", Annotations: map[string]string{credsecret.FactsAnnotation: string(f)},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: v1alpha1.GroupVersion().String(), Kind: "MqttTokenGrant", Name: "evil", UID: g.UID, Controller: ptr.To(true)}}},
		Type: credsecret.Type, Data: map[string][]byte{"tokens.json": []byte("[]"), "permissions.json": []byte("[]"), "retired.json": r},
	}))
	w.eventually("revokes", func() bool { return len(w.service.Calls(tokenfake.Revoke)) >= n })
	t.Logf("%d RevokeToken calls within %s for a grant that is %s", len(w.service.Calls(tokenfake.Revoke)), time.Since(begin), w.condition("evil", "Ready").Reason)
	w.settled()
	w.showEvents("evil")
}

func TestZZHiccup(t *testing.T) {
	w := newWorld(t)
	var fail atomic.Bool
	w.wrap = func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			if fail.Load() && r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/secrets/press-07") {
				return nil, fmt.Errorf("connection reset")
			}
			return next.RoundTrip(r)
		})
	}
	w.becomeReady()
	w.issued("press-07")
	fail.Store(true)
	w.advance(17*time.Hour, "press-07")
	time.Sleep(time.Second)
	c := w.condition("press-07", "Ready")
	g := w.grant("press-07")
	t.Logf("renewal due, one API hiccup, token valid for 7 h more: Ready=%s/%s %s; tokens %d, expiration %v", c.Status, c.Reason, c.Message, len(g.Status.Tokens), g.Status.ExpirationTime)
	t.Logf("Renewed: %+v", w.condition("press-07", "Renewed"))
	w.showEvents("press-07")
}

func TestZZClockBack(t *testing.T) {
	w := newWorld(t)
	w.clock.SetTime(start().Add(10000 * time.Hour)) // wrong clock
	w.becomeReady()
	w.service.FailNext(tokenfake.Apply, unavailable())
	w.press("press-07")
	w.eventuallyCondition("press-07", "Ready", metav1.ConditionFalse, "ServiceUnavailable")
	w.stop()
	w.clock.SetTime(start())
	w.run()
	for range 5 {
		w.advance(time.Hour, "press-07")
		w.settled()
	}
	t.Logf("5 h later: applies %d, next %v, now %v", len(w.service.Calls(tokenfake.Apply)), w.grant("press-07").Status.NextAttemptTime, w.clock.Now())
}

func TestZZStaleFlap(t *testing.T) {
	w := newWorld(t)
	watch := &gate{}
	w.wrap = func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			response, err := next.RoundTrip(r)
			if err == nil && r.URL.Query().Has("watch") && strings.HasSuffix(r.URL.Path, "/secrets") && strings.Contains(r.URL.RawQuery, "type") {
				response.Body = gated{response.Body, watch}
			}
			return response, err
		})
	}
	w.becomeReady()
	open := watch.close()
	t.Cleanup(open)
	w.press("press-07")
	w.eventuallyCondition("press-07", v1alpha1.ReadyCondition, metav1.ConditionTrue, v1alpha1.ReasonIssued)
	w.poke("press-07")
	time.Sleep(500 * time.Millisecond)
	c := w.condition("press-07", "Ready")
	t.Logf("right after the issue, another edit, Secret watch lags: Ready=%s/%s %s", c.Status, c.Reason, c.Message)
}

func TestZZInstanceFlap(t *testing.T) {
	w := readyWorld(t)
	w.service.FailNext(tokenfake.Apply, repeat(&token.Error{Kind: token.KindInstance, Op: "Apply", Code: "NoPermission", RequestID: "r", Hint: "grant mq:ApplyToken"}, 1000)...)
	w.press("press-07")
	var last metav1.ConditionStatus
	flips := 0
	end := time.Now().Add(8 * time.Second)
	for time.Now().Before(end) {
		i := w.instance()
		w.must(w.Get(t.Context(), keyOf(i), i))
		for _, c := range i.Status.Conditions {
			if c.Type == "Ready" && c.Status != last {
				last = c.Status
				flips++
			}
		}
		w.clock.SetTime(w.clock.Now().Add(10 * time.Second))
		time.Sleep(5 * time.Millisecond)
	}
	t.Logf("flips %d, applies %d", flips, len(w.service.Calls(tokenfake.Apply)))
	w.showEvents("factory")
}

func TestZZImmutable(t *testing.T) {
	w := readyWorld(t)
	w.issued("press-07")
	s := w.secret("press-07")
	w.edit(s, func() { s.Immutable = ptr.To(true) })
	w.settled()
	for range 40 {
		w.advance(61*time.Minute, "press-07")
		w.settled()
	}
	c := w.condition("press-07", "Ready")
	t.Logf("immutable: Ready=%s/%s %s; applies %d", c.Status, c.Reason, c.Message, len(w.service.Calls(tokenfake.Apply)))
}

func TestZZOverflow(t *testing.T) {
	w := readyWorld(t)
	var topics []v1alpha1.TopicPermission
	for k := range 100 {
		topics = append(topics, v1alpha1.TopicPermission{Filter: fmt.Sprintf("factory/%050d/%d", k, k), Actions: []v1alpha1.Action{"Publish"}})
	}
	w.issued("press-07", func(s *v1alpha1.MqttTokenGrantSpec) { s.Topics = topics; s.Validity = "720h" })
	for k := range 170 {
		w.clock.SetTime(w.clock.Now().Add(time.Minute))
		g := w.grant("press-07")
		w.edit(g, func() { metav1.SetMetaDataAnnotation(&g.ObjectMeta, v1alpha1.ReissueAnnotation, fmt.Sprint(k)) })
		done := func() bool {
			c := w.condition("press-07", "Stalled")
			return len(w.service.Calls(tokenfake.Apply)) >= k+2 && w.grant("press-07").Status.Revision >= int64(k+2) || c.Status == metav1.ConditionTrue
		}
		w.eventually("reissue", done)
		if c := w.condition("press-07", "Stalled"); c.Status == metav1.ConditionTrue {
			t.Logf("after %d reissues: %s", k, c.Message)
			r := w.condition("press-07", "Ready")
			t.Logf("Ready=%s/%s; applies %d live %d", r.Status, r.Reason, len(w.service.Calls(tokenfake.Apply)), len(w.service.Live()))
			w.advance(719*time.Hour, "press-07")
			w.settled()
			r = w.condition("press-07", "Ready")
			t.Logf("near expiry Ready=%s/%s %s", r.Status, r.Reason, r.Message)
			w.advance(2*time.Hour, "press-07")
			w.settled()
			r = w.condition("press-07", "Ready")
			t.Logf("after expiry Ready=%s/%s %s", r.Status, r.Reason, r.Message)
			return
		}
	}
	t.Log("no overflow")
}

// someone co-owns what is ours with equal values
func TestZZCoOwner(t *testing.T) {
	w := readyWorld(t)
	w.issued("press-07")
	s := w.secret("press-07")
	c := &corev1.Secret{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"}, ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace, Name: s.Name}, Type: s.Type, Data: map[string][]byte{"host": s.Data["host"]}}
	w.must(w.Patch(t.Context(), c, client.Apply, client.FieldOwner("tenant"))) //nolint
	time.Sleep(2 * time.Second)
	t.Logf("%d requests in 4 s", w.idle(4*time.Second))
}

// deletion without a link: who wakes the grant when its tokens are over?
func TestZZStuckDeletion(t *testing.T) {
	w := readyWorld(t)
	both := []v1alpha1.TopicPermission{{Filter: "factory/a", Actions: []v1alpha1.Action{"Publish"}}}
	w.issued("press-07", func(s *v1alpha1.MqttTokenGrantSpec) { s.Topics = both; s.Validity = "2m"; s.RenewBefore = "10s"; s.Overlap = "0s" })
	w.must(w.Delete(t.Context(), w.instance()))
	w.settled()
	w.run() // restart: no link any more
	w.settled()
	g := w.grant("press-07")
	w.edit(g, func() { g.Spec.Topics[0].Filter = "factory/c" })
	w.settled()
	w.clock.SetTime(start().Add(110 * time.Second)) // 10 s left
	w.must(w.Delete(t.Context(), w.grant("press-07")))
	time.Sleep(time.Second)
	w.clock.SetTime(start().Add(10 * time.Minute))
	time.Sleep(14 * time.Second)
	g = &v1alpha1.MqttTokenGrant{}
	err := w.Get(t.Context(), client.ObjectKey{Namespace: w.namespace, Name: "press-07"}, g)
	t.Logf("10 min after its tokens ended: gone=%v finalizers=%v", apierrors.IsNotFound(err), g.Finalizers)
	if err == nil {
		t.Logf("%s", w.condition("press-07", "Ready").Message)
		w.poke("press-07")
		time.Sleep(time.Second)
		t.Logf("after a poke gone=%v", apierrors.IsNotFound(w.Get(t.Context(), client.ObjectKey{Namespace: w.namespace, Name: "press-07"}, g)))
	}
}
