package controllers_test

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/ledger"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token/tokenfake"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/topic"
)

// gauge keeps what the manager shows.
type gauge struct {
	mu     sync.Mutex
	counts map[string]int
}

func (g *gauge) SetPendingRevocations(reason string, count int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.counts == nil {
		g.counts = map[string]int{}
	}
	g.counts[reason] = count
}

func (g *gauge) of(why ledger.Why) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.counts[string(why)]
}

// skewGauge keeps how far the service's clock was last shown to be ahead.
type skewGauge struct{ ahead atomic.Int64 }

func (g *skewGauge) SetServiceClockSkew(ahead time.Duration) { g.ahead.Store(int64(ahead)) }

// ghost is a grant that is gone, of which a page may be left.
func (w *world) ghost(name string) *v1alpha1.MqttTokenGrant {
	w.t.Helper()
	return &v1alpha1.MqttTokenGrant{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: name, UID: types.UID("uid-of-" + name)}}
}

// entry is a new token of the service, on record as one that must go.
func (w *world) entry(why ledger.Why, in time.Duration) ledger.Entry {
	w.t.Helper()
	scope, err := token.NewScope(token.Publish, topic.MustParse("factory/a"))
	w.must(err)
	expires := w.clock.Now().Add(24 * time.Hour)
	value, err := w.service.Apply(w.t.Context(), scope, expires)
	w.must(err)
	return ledger.Entry{
		Value: value, Scope: scope, Client: "post-cn-test/GID_line_a@@@x", Instance: w.namespace + "/factory",
		Expires: expires, RevokeAt: w.clock.Now().Add(in), Why: why,
	}
}

// record writes a page as an earlier manager left it.
func (w *world) record(grant *v1alpha1.MqttTokenGrant, entries ...ledger.Entry) *corev1.Secret {
	w.t.Helper()
	page, err := ledger.Page{Grant: keyOf(grant).String(), GrantUID: string(grant.UID)}.Add(entries, w.clock.Now())
	w.must(err)
	secret, err := page.Render(w.namespace)
	w.must(err)
	w.must(w.Create(w.t.Context(), secret))
	return secret
}

// page reads a page; nil if it is gone.
func (w *world) page(grant *v1alpha1.MqttTokenGrant) *ledger.Page {
	w.t.Helper()
	secret := &corev1.Secret{}
	err := w.Get(w.t.Context(), client.ObjectKey{Namespace: w.namespace, Name: ledger.Name(string(grant.UID))}, secret)
	if apierrors.IsNotFound(err) {
		return nil
	}
	w.must(err)
	page, err := ledger.Read(secret)
	w.must(err)
	return &page
}

func (w *world) eventuallyNoPage(grant *v1alpha1.MqttTokenGrant) {
	w.t.Helper()
	w.eventually("no page of "+grant.Name, func() bool { return w.page(grant) == nil })
}

// pokePages makes the manager look at every page again.
func (w *world) pokePages() {
	w.t.Helper()
	var pages corev1.SecretList
	w.must(w.List(w.t.Context(), &pages, client.InNamespace(w.namespace), client.MatchingFields{"type": ledger.Type}))
	for i := range pages.Items {
		page := &pages.Items[i]
		before := page.DeepCopy()
		metav1.SetMetaDataAnnotation(&page.ObjectMeta, "test/poke", fmt.Sprint(w.clock.Now().UnixNano()))
		w.must(client.IgnoreNotFound(w.Patch(w.t.Context(), page, client.MergeFrom(before))))
	}
}

// pokePage makes the manager look at a page again, as the passing of time would; one that is gone needs no look.
func (w *world) pokePage(grant *v1alpha1.MqttTokenGrant) {
	w.t.Helper()
	page := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: ledger.Name(string(grant.UID))}}
	patch := fmt.Sprintf(`{"metadata":{"annotations":{"test/poke":"%d"}}}`, w.clock.Now().UnixNano())
	w.must(client.IgnoreNotFound(w.Patch(w.t.Context(), page, client.RawPatch(types.MergePatchType, []byte(patch)))))
}

func (w *world) isRevoked(value token.Value) bool {
	return slices.ContainsFunc(w.service.Issued(), func(t tokenfake.Token) bool { return t.Value == value && t.Revoked })
}

func (w *world) eventuallyRevoked(entries ...ledger.Entry) {
	w.t.Helper()
	w.eventually("revoked tokens", func() bool {
		return !slices.ContainsFunc(entries, func(e ledger.Entry) bool { return !w.isRevoked(e.Value) })
	})
}

func (w *world) revokes() int { return len(w.service.Calls(tokenfake.Revoke)) }

// reasons lists the reasons of the events about an object.
func (w *world) reasons(name string) []string {
	w.t.Helper()
	var list eventsv1.EventList
	w.must(w.List(w.t.Context(), &list, client.InNamespace(w.namespace)))
	var reasons []string
	for i := range list.Items {
		if list.Items[i].Regarding.Name == name {
			reasons = append(reasons, list.Items[i].Reason)
		}
	}
	return reasons
}

// notes lists what the events about an object say.
func (w *world) notes(name string) []string {
	w.t.Helper()
	var list eventsv1.EventList
	w.must(w.List(w.t.Context(), &list, client.InNamespace(w.namespace)))
	var notes []string
	for i := range list.Items {
		if list.Items[i].Regarding.Name == name {
			notes = append(notes, list.Items[i].Note)
		}
	}
	return notes
}
