package controllers_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/credsecret"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/ledger"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token/tokenfake"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/topic"
	"github.com/mqtt-token-operator/mqtt-token-operator/pkg/mqttcred"
)

// orphan writes a token Secret as the manager leaves one, for a grant that is gone: one token in use, one retired.
func (w *world) orphan(name string, uid types.UID, change ...func(*corev1.Secret)) (*corev1.Secret, []token.Value) {
	w.t.Helper()
	publish, err := token.NewScope(token.Publish, topic.MustParse("factory/"+name))
	w.must(err)
	var tokens []credsecret.Issued
	var values []token.Value
	for range 2 {
		expires := w.clock.Now().Add(24 * time.Hour)
		value, err := w.service.Apply(w.t.Context(), publish, expires)
		w.must(err)
		values = append(values, value)
		tokens = append(tokens, credsecret.Issued{Scope: publish, Value: value, Issued: w.clock.Now(), Expires: expires})
	}
	layout := credsecret.Layout{
		Namespace: w.namespace, Name: name, GrantName: name, GrantUID: string(uid), ClusterID: "cluster-1",
		InstanceKey: w.namespace + "/factory", InstanceID: "post-cn-test", KeyID: "LTAI-one", GroupID: "GID_line_a", DeviceID: name,
		ClientID: "GID_line_a@@@" + name, Broker: credsecret.Broker{Host: "broker.example", TLSPort: 8883, WSSPort: 443},
	}
	record := credsecret.Record{Tokens: tokens[:1], Retired: []credsecret.Retired{{Issued: tokens[1], Client: layout.Client()}}}
	secret, err := layout.Render(record, credsecret.Facts{Revision: 1}, w.clock.Now())
	w.must(err)
	secret.Finalizers = []string{v1alpha1.GrantFinalizer}
	for _, c := range change {
		c(secret)
	}
	w.must(w.Create(w.t.Context(), secret))
	return secret, values
}

func (w *world) eventuallyGone(object client.Object) {
	w.t.Helper()
	w.eventually("no "+object.GetName(), func() bool {
		return apierrors.IsNotFound(w.Get(w.t.Context(), keyOf(object), object))
	})
}

func TestTheTokensOfAnOrphanedSecretAreRevoked(t *testing.T) {
	w := readyWorld(t)
	secret, values := w.orphan("press-07", "uid-of-press-07")
	w.settled()
	if w.revokes() != 0 {
		t.Fatal("revoked although nobody deletes the Secret")
	}
	w.requests.take()
	w.must(w.Delete(t.Context(), secret))
	w.eventuallyGone(secret)
	w.eventuallyNoPage(w.ghost("press-07"))
	for _, value := range values {
		if !w.isRevoked(value) {
			t.Error("a token of the Secret is alive")
		}
	}
	w.settled()
	const own, page = "/secrets/press-07", "/secrets/mqtt-ledger-uid-of-press-07"
	want := []string{"GET /mqtttokengrants/press-07", "GET " + own, "POST /secrets", "PATCH " + own, "GET " + page, "PATCH " + page, "GET " + page, "DELETE " + page}
	var got []string
	for _, r := range w.requests.take() {
		got = append(got, strings.Replace(r, w.namespace, "", 1))
	}
	if diff := cmp.Diff(want, got); len(want) != len(got) {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

func TestAnOrphanWaitsInTheLedgerAndNotInItsNamespace(t *testing.T) {
	w := readyWorld(t)
	w.service.FailNext(tokenfake.Revoke, repeat(unavailable(), 1000)...)
	secret, _ := w.orphan("press-07", "uid-of-press-07")
	w.must(w.Delete(t.Context(), secret))
	w.eventuallyGone(secret)
	page := w.page(w.ghost("press-07"))
	if page == nil || len(page.Entries) != 2 || page.Entries[0].Why != ledger.Deleted || page.Entries[0].Instance != w.factory().String() {
		t.Errorf("the ledger has %+v", page)
	}
}

// TestMadeUpSecretsMakeNoPages over an instance that never let their namespace in.
func TestMadeUpSecretsMakeNoPages(t *testing.T) {
	w := readyWorld(t)
	for _, name := range []string{"press-07", "press-08"} {
		secret, _ := w.orphan(name, types.UID("uid-of-"+name), func(s *corev1.Secret) {
			s.Annotations[credsecret.FactsAnnotation] = strings.ReplaceAll(s.Annotations[credsecret.FactsAnnotation], w.factory().String(), "victim/broker")
		})
		w.must(w.Delete(t.Context(), secret))
		w.eventuallyGone(secret)
		if page := w.page(w.ghost(name)); page != nil {
			t.Errorf("the ledger has %+v", page)
		}
	}
}

func TestASecretWhoseGrantLivesIsNotOurs(t *testing.T) {
	w := readyWorld(t)
	g := w.press("press-07", func(s *v1alpha1.MqttTokenGrantSpec) { s.Suspend = new(true) })
	secret, _ := w.orphan("press-07", g.UID, func(s *corev1.Secret) { s.Labels = nil })
	w.must(w.Delete(t.Context(), secret))
	w.settled()
	w.must(w.Get(t.Context(), keyOf(secret), secret))
	if w.revokes() != 0 || w.page(g) != nil {
		t.Errorf("%d revokes, page %+v", w.revokes(), w.page(g))
	}
}

func TestAGrantThatIsForcedOutLeavesItsSecretToUs(t *testing.T) {
	w := readyWorld(t)
	w.issued("press-07")
	g := w.grant("press-07")
	s := w.secret("press-07")
	w.edit(s, func() { s.Finalizers = []string{v1alpha1.GrantFinalizer} })
	w.settled()
	value := w.service.Issued()[0].Value
	w.must(w.Delete(t.Context(), s))
	w.settled()
	w.edit(g, func() { g.Finalizers = nil })
	w.must(w.Delete(t.Context(), g))
	// Secrets of before this manager do not say which instance issued them.
	w.eventuallyGone(s)
	w.eventually("its token is revoked, by the ledger, or it is said that this cannot be", func() bool {
		return w.isRevoked(value) != strings.Contains(w.logs.text(), "some of its tokens cannot be revoked")
	})
}

func TestWhatCannotBeAttributedBlocksNothing(t *testing.T) {
	const cannot = "some of its tokens cannot be revoked"
	strip := func(keys ...string) func(*corev1.Secret) {
		return func(s *corev1.Secret) {
			for _, key := range keys {
				delete(s.Annotations, key)
			}
		}
	}
	for sentence, tc := range map[string]struct {
		change      func(*corev1.Secret)
		wantTold    string // empty: nothing
		wantRevoked int
	}{
		"another cluster's Secret": {
			change: func(s *corev1.Secret) { s.Annotations[credsecret.ClusterIDAnnotation] = "cluster-2" },
		},
		"no facts":    {change: strip(credsecret.FactsAnnotation), wantTold: "the Secret's facts cannot be read"},
		"no grant":    {change: strip(credsecret.GrantUIDAnnotation), wantTold: "does not say which grant"},
		"no instance": {change: func(s *corev1.Secret) { withoutInstance(s) }, wantTold: "names no MqttInstance"},
		"no tokens": {
			change:   func(s *corev1.Secret) { s.Data[mqttcred.KeyTokens] = []byte("secret-text") },
			wantTold: "the Secret's tokens cannot be read",
		},
		"a grant that is no UID": {
			change:   func(s *corev1.Secret) { s.Annotations[credsecret.GrantUIDAnnotation] = "../Another" },
			wantTold: "does not say which grant",
		},
		"no label": {change: func(s *corev1.Secret) { s.Labels = nil }, wantRevoked: 2},
		"an owner who is gone": {
			change: func(s *corev1.Secret) {
				s.Annotations[credsecret.GrantUIDAnnotation] = "another"
				s.OwnerReferences = []metav1.OwnerReference{{
					APIVersion: v1alpha1.GroupVersion().String(), Kind: "MqttTokenGrant", Name: "press-07", UID: "uid-of-press-07", Controller: new(true),
				}}
			},
			wantRevoked: 2,
		},
		"a text that nobody issued": {
			change: func(s *corev1.Secret) { s.Data[mqttcred.KeyRetired] = []byte("[]") }, wantTold: `"tokens"=1`, wantRevoked: 1,
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			w := readyWorld(t)
			secret, values := w.orphan("press-07", "uid-of-press-07", tc.change)
			w.must(w.Delete(t.Context(), secret))
			w.eventuallyGone(secret)
			w.eventuallyNoPage(w.ghost("press-07"))
			w.settled()
			revoked := 0
			for _, value := range values {
				if w.isRevoked(value) {
					revoked++
				}
			}
			if revoked != tc.wantRevoked {
				t.Errorf("%d revoked, want %d", revoked, tc.wantRevoked)
			}
			if told := w.logs.text(); strings.Contains(told, cannot) != (tc.wantTold != "") || !strings.Contains(told, tc.wantTold) || strings.Contains(told, "secret-text") {
				t.Errorf("want %q told:\n%s", tc.wantTold, told)
			}
		})
	}
}

func withoutInstance(s *corev1.Secret) {
	s.Annotations[credsecret.FactsAnnotation] = strings.Replace(s.Annotations[credsecret.FactsAnnotation], `"instance"`, `"x"`, 1)
}

// TestACopyOfASecretGoesAndDoesNoHarm: made by a tool, or by a tenant who learnt the UID of somebody else's grant.
func TestACopyOfASecretGoesAndDoesNoHarm(t *testing.T) {
	w := readyWorld(t)
	w.issued("press-07")
	g := w.grant("press-07")
	s, _ := w.orphan("copy", g.UID)
	w.must(w.Delete(t.Context(), s))
	w.eventuallyGone(s)
	if w.page(g) != nil || w.revokes() != 0 {
		t.Errorf("%d revokes, the ledger has %+v", w.revokes(), w.page(g))
	}
}

func TestAnOrphanWaitsForRoomButNotForEver(t *testing.T) {
	w := readyWorld(t)
	grant := w.ghost("press-07")
	var entries []ledger.Entry
	for range ledger.MaxEntries - 1 {
		entries = append(entries, w.entry(ledger.Narrowed, time.Hour))
	}
	w.record(grant, entries...)
	secret, values := w.orphan("press-07", grant.UID)
	w.must(w.Delete(t.Context(), secret))
	w.settled()
	w.clock.SetTime(w.clock.Now().Add(9 * time.Minute))
	look := func() {
		w.must(w.Get(t.Context(), keyOf(secret), secret))
		w.edit(secret, func() { metav1.SetMetaDataAnnotation(&secret.ObjectMeta, "test/poke", w.clock.Now().String()) })
	}
	look()
	w.settled()
	w.clock.SetTime(w.clock.Now().Add(2 * time.Minute))
	look()
	w.eventuallyGone(secret)
	w.eventually("the log says why", func() bool { return strings.Contains(w.logs.text(), "no room") })
	if w.isRevoked(values[0]) {
		t.Error("the token was revoked")
	}
}
