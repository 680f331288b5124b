package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	corev1apply "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token/tokenfake"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token/tokentest"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/topic"
)

func start() time.Time { return time.Date(2031, 2, 28, 23, 59, 58, 0, time.UTC) }

// fakeLock is a lease at an API server that takes its time and may fail.
type fakeLock struct {
	resourcelock.Interface
	clock *clocktesting.FakeClock
	takes time.Duration
	err   error
}

func (l *fakeLock) Identity() string { return "us" }

func (l *fakeLock) Create(context.Context, resourcelock.LeaderElectionRecord) error {
	return l.answer()
}

func (l *fakeLock) Update(context.Context, resourcelock.LeaderElectionRecord) error {
	return l.answer()
}

func (l *fakeLock) answer() error {
	l.clock.Step(l.takes)
	return l.err
}

// election is a fence with the lock that it watches, on a clock of its own.
type election struct {
	t     *testing.T
	clock *clocktesting.FakeClock
	lease *fakeLock
	fence *fence
	lock  *fencedLock
}

func newElection(t *testing.T, elects bool) *election {
	t.Helper()
	clock := clocktesting.NewFakeClock(start())
	e := &election{t: t, clock: clock, lease: &fakeLock{clock: clock}, fence: newFence(elects)}
	e.lock = &fencedLock{Interface: e.lease, fence: e.fence, now: clock.Now}
	return e
}

// renew has the lease written for a holder; the API server takes that long and answers with the error.
func (e *election) renew(holder string, takes time.Duration, answer error) {
	e.t.Helper()
	e.lease.takes, e.lease.err = takes, answer
	if err := e.lock.Update(e.t.Context(), resourcelock.LeaderElectionRecord{HolderIdentity: holder}); !errors.Is(err, answer) {
		e.t.Errorf("the lock's answer %v became %v", answer, err)
	}
}

func (e *election) acquire() {
	e.t.Helper()
	e.lease.takes, e.lease.err = 0, nil
	if err := e.lock.Create(e.t.Context(), resourcelock.LeaderElectionRecord{HolderIdentity: "us"}); err != nil {
		e.t.Error(err)
	}
}

func TestTheFenceHolds(t *testing.T) {
	failure := errors.New("the API server is away")
	for sentence, tc := range map[string]struct {
		noElection bool
		act        func(*election)
		want       bool
	}{
		"without an election, always":                {noElection: true, act: func(e *election) { e.clock.Step(time.Hour) }, want: true},
		"not before the lease was acquired":          {act: func(*election) {}},
		"not when acquiring it failed":               {act: func(e *election) { e.renew("us", 0, failure) }},
		"once the lease was created":                 {act: func(e *election) { e.acquire() }, want: true},
		"once the lease was taken over":              {act: func(e *election) { e.renew("us", 0, nil) }, want: true},
		"up to the deadline":                         {act: func(e *election) { e.acquire(); e.clock.Step(renewDeadline - 1) }, want: true},
		"not from the deadline on":                   {act: func(e *election) { e.acquire(); e.clock.Step(renewDeadline) }},
		"not after the process was frozen":           {act: func(e *election) { e.acquire(); e.clock.Step(time.Minute) }},
		"not after the process was frozen for a day": {act: func(e *election) { e.acquire(); e.clock.Step(24 * time.Hour) }},
		"as long as the lease is renewed": {act: func(e *election) {
			e.acquire()
			for range 100 {
				e.clock.Step(retryPeriod)
				e.renew("us", time.Second, nil)
			}
			e.clock.Step(renewDeadline - time.Second - 1)
		}, want: true},
		"again when a process that was frozen renews": {act: func(e *election) { e.acquire(); e.clock.Step(time.Minute); e.renew("us", 0, nil) }, want: true},
		"not when it was frozen during the renewal":   {act: func(e *election) { e.acquire(); e.renew("us", time.Minute, nil) }},
		"although one renewal failed":                 {act: func(e *election) { e.acquire(); e.clock.Step(retryPeriod); e.renew("us", 0, failure) }, want: true},
		"not longer because of one that failed": {act: func(e *election) {
			e.acquire()
			e.clock.Step(renewDeadline - 1)
			e.renew("us", 0, failure)
			e.clock.Step(1)
		}},
		"not once the lease was released":            {act: func(e *election) { e.acquire(); e.renew("", 0, nil) }},
		"not once a release was tried":               {act: func(e *election) { e.acquire(); e.renew("", 0, failure) }},
		"not when the lease was written for another": {act: func(e *election) { e.acquire(); e.renew("them", 0, nil) }},
		"again when a released lease is acquired":    {act: func(e *election) { e.acquire(); e.renew("", 0, nil); e.renew("us", 0, nil) }, want: true},
	} {
		t.Run(sentence, func(t *testing.T) {
			e := newElection(t, !tc.noElection)
			tc.act(e)
			if err := e.fence.Holds(e.clock.Now()); (err == nil) != tc.want {
				t.Errorf("got %v", err)
			}
		})
	}
}

// What is under way while the lease is released may not call any more.
func TestTheFenceFallsBeforeTheReleaseIsSent(t *testing.T) {
	e := newElection(t, true)
	e.acquire()
	sending := &lockThat{does: func() {
		if e.fence.Holds(e.clock.Now()) == nil {
			t.Error("holds while the release is on its way")
		}
	}}
	e.lock.Interface = sending
	if err := e.lock.Update(t.Context(), resourcelock.LeaderElectionRecord{}); err != nil || !sending.done {
		t.Errorf("%v, sent: %v", err, sending.done)
	}
}

type lockThat struct {
	resourcelock.Interface
	does func()
	done bool
}

func (l *lockThat) Identity() string { return "us" }

func (l *lockThat) Update(context.Context, resourcelock.LeaderElectionRecord) error {
	l.does()
	l.done = true
	return nil
}

func TestNoCallIsMadeWithoutTheLease(t *testing.T) {
	e, fake := newElection(t, true), tokenfake.New(start)
	service, err := fenced(fake.Dialer(), e.fence, e.clock.Now)(token.Connection{})
	if err != nil {
		t.Fatal(err)
	}
	scope := token.Scope{Type: token.Publish, Topics: []topic.Filter{topic.MustParse("a")}}
	calls := map[string]func() error{
		"Apply": func() error {
			value, err := service.Apply(t.Context(), scope, start().Add(time.Hour))
			if err != nil && !value.IsZero() {
				t.Error("a token came along with the error")
			}
			return err
		},
		"Query": func() error {
			valid, err := service.Query(t.Context(), token.NewValue("x"))
			if err != nil && valid {
				t.Error("a status came along with the error")
			}
			return err
		},
		"Revoke": func() error { return service.Revoke(t.Context(), token.NewValue("x")) },
	}
	refused := func(when string) {
		t.Helper()
		before := len(fake.Calls())
		for operation, call := range calls {
			err := call()
			own, ok := errors.AsType[*token.Error](err)
			if !ok || own.Err == nil {
				t.Fatalf("%s, %s: got %v", when, operation, err)
			}
			want := token.Error{Kind: token.KindUnavailable, Op: operation, Code: "LeaseLost", Hint: hintLeaseLost, Err: own.Err}
			if diff := cmp.Diff(want, *own, cmpopts.EquateErrors()); diff != "" {
				t.Errorf("%s, %s: %s", when, operation, diff)
			}
		}
		if after := len(fake.Calls()); after != before {
			t.Errorf("%s: %d calls were made", when, after-before)
		}
	}
	refused("before the election")
	e.acquire()
	for operation, call := range calls {
		if err := call(); err != nil {
			t.Errorf("%s with the lease: %v", operation, err)
		}
	}
	if n := len(fake.Calls(tokenfake.Apply, tokenfake.Query, tokenfake.Revoke)); n != len(calls) {
		t.Errorf("%d calls were made with the lease", n)
	}
	e.clock.Step(leaseDuration)
	refused("after the lease has ended")
}

// What a frozen process had decided is old when it goes on: whoever leads may have written since, and a write that carries
// the resource version of today beside a grant of yesterday would pass.
func TestNoWriteIsMadeWithoutTheLease(t *testing.T) {
	e := newElection(t, true)
	var sent []string
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sent = append(sent, r.Method)
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"kind":"Secret","apiVersion":"v1","metadata":{"name":"a","namespace":"b"}}`)
	}))
	defer api.Close()
	mapper := meta.NewDefaultRESTMapper(nil)
	mapper.Add(corev1.SchemeGroupVersion.WithKind("Secret"), meta.RESTScopeNamespace)
	writer, err := fencedClient(e.fence, e.clock.Now)(&rest.Config{Host: api.URL}, client.Options{Scheme: scheme.Scheme, Mapper: mapper})
	if err != nil {
		t.Fatal(err)
	}
	secret := func() *corev1.Secret {
		return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: "b"}}
	}
	writes := map[string]func() error{
		"create":        func() error { return writer.Create(t.Context(), secret()) },
		"update":        func() error { return writer.Update(t.Context(), secret()) },
		"patch":         func() error { return writer.Patch(t.Context(), secret(), client.MergeFrom(secret())) },
		"apply":         func() error { return writer.Apply(t.Context(), corev1apply.Secret("a", "b"), client.FieldOwner("us")) },
		"delete":        func() error { return writer.Delete(t.Context(), secret()) },
		"update status": func() error { return writer.Status().Update(t.Context(), secret()) },
		"patch status": func() error {
			return writer.Status().Patch(t.Context(), secret(), client.MergeFrom(secret()))
		},
	}
	refused := func(when string) {
		t.Helper()
		sent = nil
		for verb, write := range writes {
			if err := write(); !errors.Is(err, errLeaseLost) {
				t.Errorf("%s, %s: got %v", when, verb, err)
			}
		}
		if len(sent) > 0 {
			t.Errorf("%s: sent %v", when, sent)
		}
		if err := writer.Get(t.Context(), client.ObjectKeyFromObject(secret()), secret()); err != nil {
			t.Errorf("%s: reading: %v", when, err)
		}
	}
	refused("before the election")
	e.acquire()
	sent = nil
	for verb, write := range writes {
		if err := write(); err != nil {
			t.Errorf("%s with the lease: %v", verb, err)
		}
	}
	if len(sent) != len(writes) {
		t.Errorf("with the lease: sent %v", sent)
	}
	e.clock.Step(leaseDuration)
	refused("after the lease has ended")
}

// What the controllers write with is the manager's own client.
func TestTheManagersClientIsFenced(t *testing.T) {
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, map[string]string{
			"/api":    `{"kind":"APIVersions","versions":["v1"]}`,
			"/api/v1": `{"kind":"APIResourceList","groupVersion":"v1","resources":[{"name":"secrets","namespaced":true,"kind":"Secret"},{"name":"namespaces","kind":"Namespace"}]}`,
			"/apis": `{"kind":"APIGroupList","apiVersion":"v1","groups":[{"name":"mqtt.tokengrant.dev",
				"versions":[{"groupVersion":"mqtt.tokengrant.dev/v1alpha1","version":"v1alpha1"}]}]}`,
			"/apis/mqtt.tokengrant.dev/v1alpha1": `{"kind":"APIResourceList","groupVersion":"mqtt.tokengrant.dev/v1alpha1","resources":[
				{"name":"mqttinstances","namespaced":true,"kind":"MqttInstance"},{"name":"mqtttokengrants","namespaced":true,"kind":"MqttTokenGrant"}]}`,
		}[r.URL.Path])
	}))
	defer api.Close()
	kinds := runtime.NewScheme()
	if err := errors.Join(scheme.AddToScheme(kinds), v1alpha1.AddToScheme(kinds)); err != nil {
		t.Fatal(err)
	}
	o := options{namespace: "mqtt-token-system", leaderElect: true, metricsAddress: "0", probeAddress: "0"}
	mgr, err := newManager(apiServer{config: &rest.Config{Host: api.URL}, kinds: kinds}, o, scope{all: true}, newFence(true))
	if err != nil {
		t.Fatal(err)
	}
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: "b"}}
	if err := mgr.GetClient().Create(t.Context(), secret); !errors.Is(err, errLeaseLost) {
		t.Errorf("a write before the election: %v", err)
	}
}

func TestAFencedServiceConforms(t *testing.T) {
	tokentest.Run(t, func(t *testing.T) tokentest.Subject {
		t.Helper()
		clock, dates := clocktesting.NewFakeClock(start()), &tokentest.Dates{}
		service, err := fenced(tokenfake.New(clock.Now).Dialer(), newFence(false), clock.Now)(token.Connection{OnDate: dates.Note})
		if err != nil {
			t.Fatal(err)
		}
		return tokentest.Subject{
			Service: service, Now: clock.Now, Advance: clock.Step, Unknown: token.NewValue("never issued"), Dates: dates,
		}
	})
}

func TestAFencePassesOnWhatDialingSays(t *testing.T) {
	fake, wrong := tokenfake.New(start), &token.Error{Kind: token.KindInstance, Op: "Dial", Code: "IncompleteConnection"}
	fake.FailNext(tokenfake.Dial, wrong)
	if service, err := fenced(fake.Dialer(), newFence(false), start)(token.Connection{}); service != nil || !errors.Is(err, wrong) {
		t.Errorf("got %v, %v", service, err)
	}
}
