package controllers_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token/tokenfake"
	"github.com/mqtt-token-operator/mqtt-token-operator/pkg/mqttcred"
)

func TestANewGrantGetsItsTokens(t *testing.T) {
	w := readyWorld(t)
	w.press("press-07")
	w.eventuallyCondition("press-07", v1alpha1.ReadyCondition, metav1.ConditionTrue, v1alpha1.ReasonIssued)
	w.settled()
	want := []string{
		"GET " + w.namespace + "/secrets/press-07",
		"PATCH " + w.namespace + "/mqtttokengrants/press-07",
		"PATCH " + w.namespace + "/secrets/press-07",
		"PATCH " + w.namespace + "/mqtttokengrants/press-07/status",
	}
	if diff := cmp.Diff(want, w.requests.take()); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	if n := len(w.service.Calls(tokenfake.Apply)); n != 1 {
		t.Errorf("%d applies, want 1", n)
	}
	w.poke("press-07")
	w.settled()
	if got := w.requests.take(); len(got) != 0 {
		t.Errorf("keeping it costs %v, want nothing", got)
	}
}

func TestARenewalCostsTwoWritesOneReadOneApply(t *testing.T) {
	w := readyWorld(t)
	w.issued("press-07")
	first := w.secret("press-07")
	w.advance(17*time.Hour, "press-07")
	w.eventually("another password", func() bool {
		return !bytes.Equal(w.secret("press-07").Data[mqttcred.KeyPassword], first.Data[mqttcred.KeyPassword])
	})
	w.settled()
	want := []string{
		"GET " + w.namespace + "/secrets/press-07",
		"PATCH " + w.namespace + "/secrets/press-07",
		"PATCH " + w.namespace + "/mqtttokengrants/press-07/status",
	}
	if diff := cmp.Diff(want, w.requests.take()); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	if calls := w.service.Calls(tokenfake.Apply, tokenfake.Revoke); len(calls) != 2 {
		t.Errorf("calls %v, want the two applies and no revoke", calls)
	}
	if retired := w.retired("press-07"); len(retired) != 1 || retired[0].RevokeAt != nil {
		t.Errorf("retired %v, want the old token, left to expire", len(retired))
	}
}

func TestARestartCostsNothing(t *testing.T) {
	w := readyWorld(t)
	for _, name := range []string{"press-01", "press-02", "press-03"} {
		w.issued(name)
	}
	w.eventually("the instance has counted them", func() bool {
		i := w.instance()
		w.must(w.Get(t.Context(), keyOf(i), i))
		return ptr.Deref(i.Status.Grants.Ready, 0) == 3
	})
	calls := len(w.service.Calls(tokenfake.Apply))
	w.stop()
	w.requests.take()
	w.run()
	w.eventually("the instance is checked", func() bool { return len(w.service.Calls(tokenfake.Query)) == 2 })
	w.settled()
	for _, request := range w.requests.take() {
		if !strings.HasPrefix(request, "GET ") || strings.Contains(request, "/secrets/press") {
			t.Errorf("a restart sends %s", request)
		}
	}
	if now := len(w.service.Calls(tokenfake.Apply)); now != calls {
		t.Errorf("a restart applies for %d tokens", now-calls)
	}
}

func TestChangesOfScope(t *testing.T) {
	both := []v1alpha1.Action{v1alpha1.ActionPublish, v1alpha1.ActionSubscribe}
	for sentence, tc := range map[string]struct {
		change      func(*v1alpha1.MqttTokenGrantSpec)
		wantApplies int // beyond the first
		wantRevoked bool
	}{
		"a wider grant gets a new token and the old one is left to expire": {
			change: func(s *v1alpha1.MqttTokenGrantSpec) {
				s.Topics = append(s.Topics, v1alpha1.TopicPermission{Filter: "factory/more", Actions: s.Topics[0].Actions})
			},
			wantApplies: 1,
		},
		"a lost topic gets a new token and the old one is revoked": {
			change:      func(s *v1alpha1.MqttTokenGrantSpec) { s.Topics = s.Topics[:1] },
			wantApplies: 1, wantRevoked: true,
		},
		"a lost action gets a new token and the old one is revoked": {
			change: func(s *v1alpha1.MqttTokenGrantSpec) {
				s.Topics[0].Actions = []v1alpha1.Action{v1alpha1.ActionSubscribe}
				s.Topics[1].Actions = []v1alpha1.Action{v1alpha1.ActionSubscribe}
			},
			wantApplies: 1, wantRevoked: true,
		},
		"another client id gets a new token and the old one is revoked": {
			change:      func(s *v1alpha1.MqttTokenGrantSpec) { s.Client.DeviceID = "another" },
			wantApplies: 1, wantRevoked: true,
		},
		"another order of topics is no change": {
			change: func(s *v1alpha1.MqttTokenGrantSpec) { slices.Reverse(s.Topics) },
		},
		"another validity waits for the next renewal": {
			change: func(s *v1alpha1.MqttTokenGrantSpec) { s.Validity = "12h" },
		},
		"labels and templates rewrite the Secret without a token": {
			change: func(s *v1alpha1.MqttTokenGrantSpec) {
				s.Secret.Labels = map[string]string{"app": "press"}
				s.Secret.Template = map[string]string{"bridge.conf": "remote_username {{ .Username }}"}
			},
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			w := readyWorld(t)
			w.issued("press-07", func(s *v1alpha1.MqttTokenGrantSpec) {
				s.Topics = []v1alpha1.TopicPermission{{Filter: "factory/a", Actions: both}, {Filter: "factory/b", Actions: both}}
			})
			first := w.service.Issued()[0]
			g := w.grant("press-07")
			w.edit(g, func() { tc.change(&g.Spec) })
			w.eventually("the change is observed", func() bool {
				now := w.grant("press-07")
				return ptr.Deref(now.Status.ObservedGeneration, 0) == now.Generation
			})
			w.eventuallyCondition("press-07", v1alpha1.ReadyCondition, metav1.ConditionTrue, v1alpha1.ReasonIssued)
			w.settled()
			if got := len(w.service.Calls(tokenfake.Apply)) - 1; got != tc.wantApplies {
				t.Errorf("%d applies, want %d", got, tc.wantApplies)
			}
			if len(w.service.Calls(tokenfake.Revoke)) != 0 {
				t.Error("revoked before the overlap is over")
			}
			w.advance(6*time.Minute, "press-07")
			if tc.wantRevoked {
				w.eventually("the old token is revoked", func() bool { return !slices.ContainsFunc(w.service.Live(), sameValue(first)) })
				w.eventually("and off the record", func() bool { return len(w.retired("press-07")) == 0 })
			}
			w.settled()
			if got := len(w.service.Calls(tokenfake.Revoke)) > 0; got != tc.wantRevoked {
				t.Errorf("revoked: %v, want %v", got, tc.wantRevoked)
			}
			if pending := w.grant("press-07").Status.PendingRevocations; pending != 0 {
				t.Errorf("pendingRevocations is %d at the end", pending)
			}
		})
	}
}

func TestReissueOnRequestHappensOncePerValue(t *testing.T) {
	w := readyWorld(t)
	w.issued("press-07")
	g := w.grant("press-07")
	w.edit(g, func() { metav1.SetMetaDataAnnotation(&g.ObjectMeta, v1alpha1.ReissueAnnotation, "leak-42") })
	w.eventually("a second revision", func() bool { return w.grant("press-07").Status.Revision == 2 })
	w.poke("press-07")
	w.settled()
	if n := len(w.service.Calls(tokenfake.Apply)); n != 2 {
		t.Errorf("%d applies, want 2", n)
	}
}

func TestASuspendedGrantAppliesForNothing(t *testing.T) {
	w := readyWorld(t)
	w.press("press-07", func(s *v1alpha1.MqttTokenGrantSpec) { s.Suspend = new(true) })
	w.eventuallyCondition("press-07", v1alpha1.ReadyCondition, metav1.ConditionFalse, v1alpha1.ReasonSuspended)
	if n := len(w.service.Calls(tokenfake.Apply)); n != 0 {
		t.Errorf("%d applies", n)
	}
	g := w.grant("press-07")
	w.edit(g, func() { g.Spec.Suspend = new(false) })
	w.eventuallyCondition("press-07", v1alpha1.ReadyCondition, metav1.ConditionTrue, v1alpha1.ReasonIssued)
}

func TestDeletion(t *testing.T) {
	for sentence, tc := range map[string]struct {
		policy   v1alpha1.DeletionPolicy
		wantLive int
	}{
		"revokes every live token, the superseded one included": {policy: v1alpha1.DeletionPolicyRevoke, wantLive: 0},
		"that abandons leaves the current token alone":          {policy: v1alpha1.DeletionPolicyAbandon, wantLive: 1},
	} {
		t.Run(sentence, func(t *testing.T) {
			w := readyWorld(t)
			g := w.issued("press-07", func(s *v1alpha1.MqttTokenGrantSpec) { s.DeletionPolicy = tc.policy })
			w.advance(17*time.Hour, "press-07")
			w.eventually("a renewal", func() bool { return w.grant("press-07").Status.Revision == 2 })
			w.must(w.Delete(t.Context(), g))
			w.eventually("the grant is gone", func() bool { return apierrors.IsNotFound(w.Get(t.Context(), keyOf(g), g)) })
			if got := len(w.service.Live()); got != tc.wantLive {
				t.Errorf("%d live tokens, want %d", got, tc.wantLive)
			}
			if err := w.Get(t.Context(), keyOf(g), &corev1.Secret{}); !apierrors.IsNotFound(err) {
				t.Errorf("the Secret is still there: %v", err)
			}
		})
	}
}

func TestADeletionWaitsForTheServiceAndGoesOn(t *testing.T) {
	w := readyWorld(t)
	g := w.issued("press-07")
	w.service.FailNext(tokenfake.Revoke, &token.Error{Kind: token.KindUnavailable, Op: "Revoke", Code: "Timeout"})
	w.must(w.Delete(t.Context(), g))
	w.eventually("the reason is told", func() bool {
		return strings.Contains(w.condition("press-07", v1alpha1.ReadyCondition).Message, "cannot be revoked yet")
	})
	w.advance(time.Minute, "press-07")
	w.eventually("the grant is gone", func() bool { return apierrors.IsNotFound(w.Get(t.Context(), keyOf(g), g)) })
	if got := len(w.service.Live()); got != 0 {
		t.Errorf("%d live tokens", got)
	}
}

func TestACredentialSecretThatGoesFirstDoesNotStopRevocation(t *testing.T) {
	w := readyWorld(t)
	g := w.issued("press-07")
	w.must(w.Delete(t.Context(), w.secret("factory-ak")))
	w.eventually("the instance misses it", func() bool {
		i := w.instance()
		w.must(w.Get(t.Context(), keyOf(i), i))
		return slices.ContainsFunc(i.Status.Conditions, func(c metav1.Condition) bool { return c.Reason == v1alpha1.ReasonCredentialNotFound })
	})
	w.must(w.Delete(t.Context(), g))
	w.eventually("the grant is gone", func() bool { return apierrors.IsNotFound(w.Get(t.Context(), keyOf(g), g)) })
	if got := len(w.service.Live()); got != 0 {
		t.Errorf("%d live tokens", got)
	}
}

func TestFewestTokens(t *testing.T) {
	publish, subscribe := []v1alpha1.Action{v1alpha1.ActionPublish}, []v1alpha1.Action{v1alpha1.ActionSubscribe}
	both := slices.Concat(publish, subscribe)
	for sentence, tc := range map[string]struct {
		topics []v1alpha1.TopicPermission
		want   []string
	}{
		"both ways take one token": {
			topics: []v1alpha1.TopicPermission{{Filter: "factory/a", Actions: both}, {Filter: "factory/b", Actions: both}},
			want:   []string{"PublishSubscribe"},
		},
		"mixed ways take two": {
			topics: []v1alpha1.TopicPermission{{Filter: "factory/a", Actions: publish}, {Filter: "factory/b", Actions: subscribe}, {Filter: "factory/c", Actions: both}},
			want:   []string{"Publish", "Subscribe"},
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			w := readyWorld(t)
			w.issued("press-07", func(s *v1alpha1.MqttTokenGrantSpec) { s.Topics = tc.topics })
			var got []string
			for _, ts := range w.grant("press-07").Status.Tokens {
				got = append(got, ts.Type)
			}
			slices.Sort(got)
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
			if n := len(w.service.Calls(tokenfake.Apply)); n != len(tc.want) {
				t.Errorf("%d applies, want %d", n, len(tc.want))
			}
		})
	}
}

// issued makes a grant and waits until it is Ready and the manager is at rest.
func (w *world) issued(name string, change ...func(*v1alpha1.MqttTokenGrantSpec)) *v1alpha1.MqttTokenGrant {
	w.t.Helper()
	w.press(name, change...)
	w.eventuallyCondition(name, v1alpha1.ReadyCondition, metav1.ConditionTrue, v1alpha1.ReasonIssued)
	w.settled()
	w.requests.take()
	return w.grant(name)
}

func (w *world) retired(name string) []mqttcred.RetiredToken {
	w.t.Helper()
	var list []mqttcred.RetiredToken
	w.must(json.Unmarshal(w.secret(name).Data[mqttcred.KeyRetired], &list))
	return list
}

func sameValue(want tokenfake.Token) func(tokenfake.Token) bool {
	return func(t tokenfake.Token) bool { return t.Value == want.Value }
}

func sameBytes(a, b map[string][]byte) bool {
	return maps.EqualFunc(a, b, bytes.Equal)
}

func TestAnOverlapBeyondTheTokensEndIsCutShortAndSaid(t *testing.T) {
	w := readyWorld(t)
	w.issued("press-07", func(s *v1alpha1.MqttTokenGrantSpec) {
		twoTopics(s)
		s.Validity, s.RenewBefore, s.Overlap = "10m", "2m", "1h"
	})
	g := w.grant("press-07")
	w.edit(g, func() { g.Spec.Topics = g.Spec.Topics[:1] })
	w.eventually("the narrower token", func() bool { return w.grant("press-07").Status.Revision == 2 })
	w.settled()
	w.eventually("it is told that the overlap is cut short", func() bool {
		return slices.ContainsFunc(w.notes("press-07"), func(n string) bool { return strings.Contains(n, "cut short") })
	})
	if n := w.grant("press-07").Status.PendingRevocations; n != 0 {
		t.Errorf("%d revocations pending for a token that ends first", n)
	}
}

func TestAShortValidityIsWarnedOf(t *testing.T) {
	w := readyWorld(t)
	w.issued("press-07", func(s *v1alpha1.MqttTokenGrantSpec) { s.Validity = "2m" })
	w.issued("press-08")
	w.eventuallyCondition("press-07", v1alpha1.ShortValidityCondition, metav1.ConditionTrue, v1alpha1.ReasonShortValidity)
	if c := w.condition("press-08", v1alpha1.ShortValidityCondition); c.Type != "" {
		t.Errorf("a day is short: %s", c.Message)
	}
}
