package controllers_test

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token/tokenfake"
	"github.com/mqtt-token-operator/mqtt-token-operator/pkg/mqttcred"
)

func unavailable() *token.Error {
	return &token.Error{Kind: token.KindUnavailable, Op: "Apply", Code: "InternalError", RequestID: "r-1"}
}

func badKey() *token.Error {
	return &token.Error{Kind: token.KindInstance, Op: "Query", Code: "SignatureDoesNotMatch", RequestID: "r-2", Hint: "the secret does not belong to the key"}
}

func repeat(fault *token.Error, n int) []*token.Error {
	list := make([]*token.Error, n)
	for i := range list {
		list[i] = fault
	}
	return list
}

// TestTheLastGoodSecretSurvivesAnOutage lives through an outage that outlasts the token.
func TestTheLastGoodSecretSurvivesAnOutage(t *testing.T) {
	w := readyWorld(t)
	w.issued("press-07")
	before := w.secret("press-07").Data
	w.service.FailNext(tokenfake.Apply, repeat(unavailable(), 1000)...)
	w.advance(16*time.Hour+time.Minute, "press-07")
	w.eventuallyCondition("press-07", v1alpha1.RenewedCondition, metav1.ConditionFalse, v1alpha1.ReasonServiceUnavailable)
	for range 6 {
		w.advance(75*time.Minute, "press-07")
		w.settled()
		if !sameBytes(before, w.secret("press-07").Data) {
			t.Fatal("the Secret changed")
		}
		if c := w.condition("press-07", v1alpha1.ReadyCondition); c.Status != metav1.ConditionTrue {
			t.Fatalf("not Ready with a valid token: %s", c.Message)
		}
	}
	g := w.grant("press-07")
	if g.Status.FailedAttempts < 5 || g.Status.LastFailure.Reason != v1alpha1.ReasonServiceUnavailable {
		t.Errorf("the status does not tell of the failures: %+v", g.Status)
	}
	w.advance(time.Hour, "press-07")
	w.eventuallyCondition("press-07", v1alpha1.ReadyCondition, metav1.ConditionFalse, v1alpha1.ReasonExpired)
	if !sameBytes(before, w.secret("press-07").Data) {
		t.Error("the Secret changed")
	}
}

func TestABackoffIsKeptAndEndsWithSuccess(t *testing.T) {
	w := readyWorld(t)
	w.service.FailNext(tokenfake.Apply, unavailable())
	w.press("press-07")
	w.eventuallyCondition("press-07", v1alpha1.ReadyCondition, metav1.ConditionFalse, v1alpha1.ReasonServiceUnavailable)
	w.poke("press-07")
	w.settled()
	if n := len(w.service.Calls(tokenfake.Apply)); n != 1 {
		t.Errorf("%d applies before the next attempt is due", n)
	}
	w.advance(10*time.Second, "press-07")
	w.eventuallyCondition("press-07", v1alpha1.ReadyCondition, metav1.ConditionTrue, v1alpha1.ReasonIssued)
	if g := w.grant("press-07"); g.Status.FailedAttempts != 0 || g.Status.NextAttemptTime != nil || g.Status.LastFailure.Reason != "" {
		t.Errorf("the failure is still told: %+v", g.Status)
	}
}

func TestFaultsOfTheGrantAreToldAtTheGrant(t *testing.T) {
	for sentence, tc := range map[string]struct {
		kind        token.Kind
		want        string
		wantStalled bool
	}{
		"a request that the service refuses stalls": {token.KindInvalid, v1alpha1.ReasonRefused, true},
		"a topic that the account may not use":      {token.KindDenied, v1alpha1.ReasonTopicDenied, false},
		"too many calls":                            {token.KindThrottled, v1alpha1.ReasonThrottled, false},
		"an answer that cannot be read is no token": {token.KindUnavailable, v1alpha1.ReasonServiceUnavailable, false},
		"a fault of the instance is the instance's": {token.KindInstance, v1alpha1.ReasonInstanceNotReady, false},
	} {
		t.Run(sentence, func(t *testing.T) {
			w := readyWorld(t)
			w.service.FailNext(tokenfake.Apply, repeat(&token.Error{Kind: tc.kind, Op: "Apply", Code: "SomeCode", RequestID: "r"}, 50)...)
			w.press("press-07")
			w.eventuallyCondition("press-07", v1alpha1.ReadyCondition, metav1.ConditionFalse, tc.want)
			if got := w.condition("press-07", v1alpha1.StalledCondition).Status == metav1.ConditionTrue; got != tc.wantStalled {
				t.Errorf("stalled: %v, want %v", got, tc.wantStalled)
			}
			if err := w.Get(t.Context(), client.ObjectKey{Namespace: w.namespace, Name: "press-07"}, &corev1.Secret{}); err == nil {
				t.Error("a Secret without a token was written")
			}
		})
	}
}

func TestAWrongKeyIsToldOnceAndHealsByItself(t *testing.T) {
	w := newWorld(t)
	w.credential("LTAI-one", "wrong")
	w.must(w.Create(t.Context(), w.instance()))
	w.service.FailNext(tokenfake.Query, repeat(badKey(), 3)...)
	w.run()
	w.eventuallyInstance(metav1.ConditionFalse, v1alpha1.ReasonCredentialRefused)
	for _, name := range []string{"press-01", "press-02", "press-03"} {
		w.press(name)
		w.eventuallyCondition(name, v1alpha1.ReadyCondition, metav1.ConditionFalse, v1alpha1.ReasonInstanceNotReady)
	}
	w.settled()
	if n := len(w.service.Calls(tokenfake.Apply)); n != 0 {
		t.Errorf("%d applies over a connection that does not work", n)
	}
	if n := len(w.service.Calls(tokenfake.Query)); n > 2 {
		t.Errorf("%d checks within seconds", n)
	}
	w.service.ClearScript()
	w.credential("LTAI-one", "right")
	w.eventuallyInstance(metav1.ConditionTrue, v1alpha1.ReasonConnected)
	for _, name := range []string{"press-01", "press-02", "press-03"} {
		w.eventuallyCondition(name, v1alpha1.ReadyCondition, metav1.ConditionTrue, v1alpha1.ReasonIssued)
	}
}

// TestARefusedApplyDoesNotLoop is the trap of a key that may query but not apply: the check passes, the work does not.
func TestARefusedApplyDoesNotLoop(t *testing.T) {
	w := readyWorld(t)
	w.service.FailNext(tokenfake.Apply, repeat(&token.Error{Kind: token.KindInstance, Op: "Apply", Code: "NoPermission", RequestID: "r"}, 10000)...)
	for _, name := range []string{"press-01", "press-02", "press-03", "press-04", "press-05"} {
		w.press(name)
	}
	w.eventuallyInstance(metav1.ConditionFalse, v1alpha1.ReasonCredentialRefused)
	w.settled()
	if n := len(w.service.Calls(tokenfake.Apply)); n > 30 {
		t.Errorf("%d applies within a second or two, want a handful", n)
	}
}

func TestCredentialsThatCannotWork(t *testing.T) {
	for sentence, tc := range map[string]struct {
		data map[string][]byte
		want string
	}{
		"no Secret at all":   {nil, v1alpha1.ReasonCredentialNotFound},
		"a key is missing":   {map[string][]byte{"accessKeyID": []byte("LTAI")}, v1alpha1.ReasonCredentialInvalid},
		"an empty key":       {map[string][]byte{"accessKeyID": []byte("LTAI"), "accessKeySecret": []byte(" \n")}, v1alpha1.ReasonCredentialInvalid},
		"nonsense as the id": {map[string][]byte{"accessKeyID": []byte("a|b"), "accessKeySecret": []byte("x")}, v1alpha1.ReasonCredentialInvalid},
		"a temporary key without a lasting id for clients": {
			map[string][]byte{"accessKeyID": []byte("STS.abc"), "accessKeySecret": []byte("x"), "securityToken": []byte("y")}, v1alpha1.ReasonCredentialInvalid,
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			w := newWorld(t)
			if tc.data != nil {
				w.must(w.Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "factory-ak"}, Data: tc.data}))
			}
			w.must(w.Create(t.Context(), w.instance()))
			w.run()
			w.eventuallyInstance(metav1.ConditionFalse, tc.want)
			if len(w.service.Calls()) != 0 {
				t.Errorf("calls %v", w.service.Calls())
			}
			w.press("press-07")
			w.eventuallyCondition("press-07", v1alpha1.ReadyCondition, metav1.ConditionFalse, v1alpha1.ReasonInstanceNotReady)
			if tc.data == nil {
				w.credential("LTAI-one", "secret")
				w.eventuallyCondition("press-07", v1alpha1.ReadyCondition, metav1.ConditionTrue, v1alpha1.ReasonIssued)
			}
		})
	}
}

func TestEndpointsMustBeAllowed(t *testing.T) {
	for sentence, tc := range map[string]struct {
		endpoint, bundle string
		allowed          []string
		wantProblem      bool
	}{
		"the service's own":                    {endpoint: "onsmqtt.cn-hangzhou.aliyuncs.com"},
		"its private form":                     {endpoint: "onsmqtt-vpc.cn-hangzhou.aliyuncs.com"},
		"a customer's host in the same domain": {endpoint: "onsmqtt.evil.oss.aliyuncs.com", wantProblem: true},
		"a host that looks like it":            {endpoint: "onsmqtt.cn-hangzhou.aliyuncs.com.evil.example", wantProblem: true},
		"the service's own on another port":    {endpoint: "onsmqtt.cn-hangzhou.aliyuncs.com:8443", wantProblem: true},
		"a host that the manager lists":        {endpoint: "localhost:8443", bundle: "PEM", allowed: []string{"localhost:8443"}},
		"the listed host on another port":      {endpoint: "localhost:9999", allowed: []string{"localhost:8443"}, wantProblem: true},
		"a bundle for the service's own":       {endpoint: "onsmqtt.cn-hangzhou.aliyuncs.com", bundle: "PEM", wantProblem: true},
	} {
		t.Run(sentence, func(t *testing.T) {
			w := newWorld(t)
			w.endpoints = tc.allowed
			w.credential("LTAI-one", "secret")
			i := w.instance()
			i.Spec.Endpoint, i.Spec.CABundle = tc.endpoint, tc.bundle
			w.must(w.Create(t.Context(), i))
			w.run()
			if !tc.wantProblem {
				w.eventuallyInstance(metav1.ConditionTrue, v1alpha1.ReasonConnected)
				return
			}
			w.eventuallyInstance(metav1.ConditionFalse, v1alpha1.ReasonEndpointNotAllowed)
			if len(w.service.Calls()) != 0 {
				t.Error("the credential was used all the same")
			}
		})
	}
}

func TestAForeignSecretIsLeftAlone(t *testing.T) {
	for sentence, secret := range map[string]*corev1.Secret{
		"of another type":               {Type: corev1.SecretTypeOpaque, Data: map[string][]byte{"password": []byte("mine")}},
		"of our type without our marks": {Type: "mqtt.tokengrant.dev/token", Data: map[string][]byte{"password": []byte("mine")}},
		"of our type and empty":         {Type: "mqtt.tokengrant.dev/token"},
		"from a backup of another cluster": {
			ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{"mqtt.tokengrant.dev/cluster-id": "another", "mqtt.tokengrant.dev/grant-uid": "some"}},
			Type:       "mqtt.tokengrant.dev/token", Data: map[string][]byte{"password": []byte("mine")},
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			w := readyWorld(t)
			secret.Namespace, secret.Name = w.namespace, "press-07"
			w.must(w.Create(t.Context(), secret))
			before := w.secret("press-07")
			w.press("press-07")
			w.eventuallyCondition("press-07", v1alpha1.ReadyCondition, metav1.ConditionFalse, v1alpha1.ReasonSecretConflict)
			if w.secret("press-07").ResourceVersion != before.ResourceVersion {
				t.Error("it was written to")
			}
			if n := len(w.service.Calls(tokenfake.Apply)); n != 0 {
				t.Errorf("%d applies for a Secret that cannot be written", n)
			}
			g := w.grant("press-07")
			w.must(w.Delete(t.Context(), g))
			w.eventually("the grant is gone", func() bool { return w.Get(t.Context(), keyOf(g), g) != nil })
			if w.secret("press-07").ResourceVersion != before.ResourceVersion {
				t.Error("the deletion touched it")
			}
		})
	}
}

func TestDriftIsRepaired(t *testing.T) {
	for sentence, tc := range map[string]struct {
		vandalize   func(*corev1.Secret)
		wantApplies int
	}{
		"an edited password comes back without a call":   {func(s *corev1.Secret) { s.Data[mqttcred.KeyPassword] = []byte("x") }, 0},
		"a removed key comes back without a call":        {func(s *corev1.Secret) { delete(s.Data, mqttcred.KeyHost) }, 0},
		"a stripped label comes back without a call":     {func(s *corev1.Secret) { s.Labels = nil }, 0},
		"a stripped owner comes back without a call":     {func(s *corev1.Secret) { s.OwnerReferences = nil }, 0},
		"a stripped label of the owner's comes back":     {func(s *corev1.Secret) { delete(s.Labels, "app") }, 0},
		"a stripped finalizer comes back without a call": {func(s *corev1.Secret) { s.Finalizers = nil }, 0},
		"a cleared record of fields is written again":    {func(s *corev1.Secret) { s.ManagedFields = []metav1.ManagedFieldsEntry{{}} }, 0},
		"edited tokens cost one reissue":                 {func(s *corev1.Secret) { s.Data[mqttcred.KeyTokens] = []byte("[]") }, 1},
		"stripped facts cost one reissue":                {func(s *corev1.Secret) { delete(s.Annotations, "mqtt.tokengrant.dev/facts") }, 1},
		"a key that somebody adds is nobody's business":  {func(s *corev1.Secret) { s.Data["note"] = []byte("hello") }, 0},
	} {
		t.Run(sentence, func(t *testing.T) {
			w := readyWorld(t)
			w.issued("press-07", func(s *v1alpha1.MqttTokenGrantSpec) { s.Secret.Labels = map[string]string{"app": "press"} })
			w.clock.SetTime(w.clock.Now().Add(time.Minute))
			before := w.secret("press-07")
			edited := before.DeepCopy()
			w.edit(edited, func() { tc.vandalize(edited) })
			restored := func() bool {
				now := w.secret("press-07")
				return len(now.Data) >= len(before.Data) && len(now.OwnerReferences) == 1 && len(now.Finalizers) == 1 && now.Labels["mqtt.tokengrant.dev/grant"] == "press-07" && now.Labels["app"] == "press" &&
					string(now.Data[mqttcred.KeyPassword]) == w.livePassword() && now.Annotations["mqtt.tokengrant.dev/facts"] != ""
			}
			w.eventually("what was ours is back", restored)
			w.settled()
			if got := len(w.service.Calls(tokenfake.Apply)) - 1; got != tc.wantApplies {
				t.Errorf("%d applies, want %d", got, tc.wantApplies)
			}
			w.requests.take()
			w.poke("press-07")
			w.settled()
			if got := w.requests.take(); len(got) != 0 {
				t.Errorf("it goes on with %v", got)
			}
		})
	}
}

func TestADeletedSecretIsReissuedAtMostOncePerFloor(t *testing.T) {
	w := readyWorld(t)
	w.issued("press-07")
	w.clock.SetTime(w.clock.Now().Add(time.Minute))
	for range 5 {
		w.must(client.IgnoreNotFound(w.Delete(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "press-07"}})))
		w.settled()
	}
	if n := len(w.service.Calls(tokenfake.Apply)); n < 2 || n > 3 {
		t.Errorf("%d applies for five deletions within seconds, want two or three", n)
	}
}

// TestATokenWhoseSecretWriteFailedIsNotAppliedForAgain: retries must not mint orphans.
func TestATokenWhoseSecretWriteFailedIsNotAppliedForAgain(t *testing.T) {
	w := newWorld(t)
	var refuse atomic.Bool
	w.wrap = func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			if refuse.Load() && r.Method == http.MethodPatch && strings.Contains(r.URL.Path, "/secrets/") {
				return &http.Response{
					StatusCode: http.StatusForbidden, Header: http.Header{"Content-Type": {"application/json"}}, Request: r, Body: http.NoBody,
				}, nil
			}
			return next.RoundTrip(r)
		})
	}
	w.becomeReady()
	refuse.Store(true)
	w.press("press-07")
	w.eventuallyCondition("press-07", v1alpha1.ReadyCondition, metav1.ConditionFalse, v1alpha1.ReasonSecretUnwritable)
	for range 5 {
		w.advance(time.Minute, "press-07")
		w.settled()
	}
	refuse.Store(false)
	w.advance(10*time.Minute, "press-07")
	w.eventuallyCondition("press-07", v1alpha1.ReadyCondition, metav1.ConditionTrue, v1alpha1.ReasonIssued)
	if n := len(w.service.Calls(tokenfake.Apply)); n != 1 {
		t.Errorf("%d applies, want the one whose token was kept", n)
	}
}

// TestAStaleCacheNeverLeadsToASecondApply holds back what the watch on Secrets would tell.
func TestAStaleCacheNeverLeadsToASecondApply(t *testing.T) {
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
	w.poke("press-07") // within the floor of a repair
	w.settled()
	if c := w.condition("press-07", v1alpha1.ReadyCondition); c.Status != metav1.ConditionTrue {
		t.Errorf("a late cache makes the grant %s: %s", c.Reason, c.Message)
	}
	for range 3 {
		w.advance(time.Minute, "press-07")
		w.settled()
	}
	if n := len(w.service.Calls(tokenfake.Apply)); n != 1 {
		t.Errorf("%d applies with a cache that never saw the Secret", n)
	}
	open()
	w.settled()
	if n := len(w.service.Calls(tokenfake.Apply)); n != 1 {
		t.Errorf("%d applies after the cache caught up", n)
	}
}
