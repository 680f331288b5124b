package controllers_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/controllers"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token/tokenfake"
	"github.com/mqtt-token-operator/mqtt-token-operator/test/apiserver"
)

var server *rest.Config

func TestMain(m *testing.M) {
	os.Exit(apiserver.Main(m, func(config *rest.Config) { server = config }))
}

// world is one namespace with a manager of its own, a token service and a clock.
type world struct {
	client.Client
	t         testing.TB
	namespace string
	clock     *clocktesting.FakePassiveClock
	service   *tokenfake.Fake
	requests  *requestLog
	logs      *logBuffer
	dial      token.Dialer
	probe     controllers.BrokerProbe
	accountOf token.AccountTeller
	endpoints []string
	// verifyInterval is how often tokens are checked; 0: never.
	verifyInterval time.Duration
	// priorityQueue overrides controller-runtime's choice of a queue.
	priorityQueue *bool
	wrap          func(http.RoundTripper) http.RoundTripper
	server        *rest.Config
	ledger        *controllers.Ledger
	waiting       *gauge
	skew          *skewGauge
	stop          func()
	// rollouts has consumers restarted.
	rollouts bool
}

// start is a moment in whole seconds, far from the wall clock, so that a forgotten time.Now shows. It lies in the past: to
// a world, what the API server stamps is of the future, and so never overdue.
func start() time.Time { return time.Date(2021, 5, 17, 3, 4, 5, 0, time.UTC) }

var worlds atomic.Int32

// newWorld makes a namespace; run starts the manager. Worlds do not see each other, so their tests run in parallel.
func newWorld(t *testing.T) *world {
	t.Helper()
	t.Parallel()
	return newWorldAt(t, server)
}

func newWorldAt(tb testing.TB, server *rest.Config) *world {
	tb.Helper()
	c, err := client.New(server, client.Options{Scheme: testScheme(tb)})
	if err != nil {
		tb.Fatal(err)
	}
	w := &world{
		Client: c, t: tb, server: server, namespace: fmt.Sprintf("world-%d", worlds.Add(1)),
		clock: clocktesting.NewFakePassiveClock(start()), requests: &requestLog{}, logs: &logBuffer{}, waiting: &gauge{}, skew: &skewGauge{}, stop: func() {},
	}
	w.service = tokenfake.New(w.clock.Now)
	w.dial = w.service.Dialer()
	w.must(c.Create(tb.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: w.namespace, Labels: map[string]string{"mqtt": "factory"}}}))
	return w
}

func testScheme(tb testing.TB) *runtime.Scheme {
	tb.Helper()
	kinds := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{scheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(kinds); err != nil {
			tb.Fatal(err)
		}
	}
	return kinds
}

// run starts a manager for this world's namespace; a second call stops the first one, as a restart does.
func (w *world) run() {
	w.t.Helper()
	w.stop()
	settings := rest.CopyConfig(w.server)
	settings.Wrap(w.requests.wrap)
	if w.wrap != nil {
		settings.Wrap(w.wrap)
	}
	mgr, err := ctrl.NewManager(settings, ctrl.Options{
		Scheme: testScheme(w.t), NewCache: controllers.NewCache, Cache: controllers.CacheOptions(w.namespace), Metrics: metricsserver.Options{BindAddress: "0"},
		Controller: config.Controller{SkipNameValidation: new(true), UsePriorityQueue: w.priorityQueue}, Logger: w.logs.logger(),
	})
	w.must(err)
	secrets, err := metadata.NewForConfigAndClient(mgr.GetConfig(), mgr.GetHTTPClient())
	w.must(err)
	ctx, cancel := context.WithCancel(context.Background())
	connections := controllers.NewConnections()
	// The worlds share an API server, so each one's namespace is its manager's own, too.
	w.ledger = &controllers.Ledger{Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Namespace: w.namespace, Gauge: w.waiting}
	guard := controllers.NewMassGuard(mgr.GetClient(), connections)
	grants := &controllers.GrantReconciler{
		Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Connections: connections, Ledger: w.ledger, Guard: guard, Clock: w.clock,
		Events: mgr.GetEventRecorder("test"), ClusterID: "cluster-1",
		RevocationDeadline: 2 * time.Minute, VerifyInterval: w.verifyInterval, RolloutRestarts: w.rollouts,
	}
	w.must(grants.SetupWithManager(ctx, mgr, 4))
	instances := &controllers.InstanceReconciler{
		Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Connections: connections, Clock: w.clock, Dial: w.dial,
		Events: mgr.GetEventRecorder("test"), Credentials: controllers.NewCredentialWatch(secrets), AllowedEndpoints: w.endpoints,
		Guard: guard, Ledger: w.ledger, Skew: w.skew, RevocationDeadline: 2 * time.Minute, Probe: w.probe, AccountOf: w.accountOf,
	}
	w.must(instances.SetupWithManager(mgr))
	w.must(w.ledger.SetupWithManager(ctx, mgr))
	revoking := &controllers.LedgerReconciler{
		Client: mgr.GetClient(), Ledger: w.ledger, Connections: connections, Clock: w.clock, Events: mgr.GetEventRecorder("test"),
	}
	if w.rollouts {
		revoking.Rollouts = controllers.NewRollouts()
		restarting := &controllers.RolloutReconciler{
			Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Clock: w.clock, Events: mgr.GetEventRecorder("test"),
			Rollouts: revoking.Rollouts, Ledger: w.ledger,
		}
		w.must(restarting.SetupWithManager(mgr))
	}
	w.must(revoking.SetupWithManager(mgr))
	leaving := &controllers.OrphanReconciler{
		Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Ledger: w.ledger, Connections: connections, Clock: w.clock, ClusterID: "cluster-1",
	}
	w.must(leaving.SetupWithManager(mgr))
	done := make(chan error, 1)
	go func() { done <- mgr.Start(ctx) }()
	var once sync.Once
	w.stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				w.t.Errorf("the manager ended with %v", err)
			}
		})
	}
	w.t.Cleanup(w.stop)
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatalf("%v\n%s", err, w.logs.text())
	}
}

// eventually waits for something that the manager does by itself. The world's clock goes on meanwhile.
func (w *world) eventually(what string, holds func() bool) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-ctx.Done():
			w.t.Fatalf("never seen: %s\n%s\nlog:\n%s", what, w.describe(), w.logs.text())
		case <-tick.C:
			w.clock.SetTime(w.clock.Now().Add(10 * time.Millisecond)) // time passes for those who wait for their turn
		}
	}
}

// settled waits until the manager has sent nothing for a while: long enough that a further pass would have shown.
func (w *world) settled() {
	w.t.Helper()
	last, since := -1, 0
	w.eventually("an end of the manager's requests", func() bool {
		if n := w.requests.total(); n != last {
			last, since = n, 0
		}
		since++
		return since > 50
	})
}

func (w *world) describe() string {
	var grants v1alpha1.MqttTokenGrantList
	_ = w.List(context.Background(), &grants, client.InNamespace(w.namespace))
	var instances v1alpha1.MqttInstanceList
	_ = w.List(context.Background(), &instances, client.InNamespace(w.namespace))
	var b strings.Builder
	for _, i := range instances.Items {
		fmt.Fprintf(&b, "instance %s: %+v\n", i.Name, i.Status)
	}
	for _, g := range grants.Items {
		fmt.Fprintf(&b, "grant %s: %+v\n", g.Name, g.Status)
	}
	return b.String()
}

// credential writes the instance's credential Secret.
func (w *world) credential(id, secret string) {
	w.t.Helper()
	object := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "factory-ak"},
		Data:       map[string][]byte{"accessKeyID": []byte(id), "accessKeySecret": []byte(secret)},
	}
	err := w.Create(w.t.Context(), object)
	if apierrors.IsAlreadyExists(err) {
		err = w.Update(w.t.Context(), object)
	}
	w.must(err)
}

func (w *world) grant(name string) *v1alpha1.MqttTokenGrant {
	w.t.Helper()
	g := &v1alpha1.MqttTokenGrant{}
	w.must(w.Get(w.t.Context(), client.ObjectKey{Namespace: w.namespace, Name: name}, g))
	return g
}

func (w *world) secret(name string) *corev1.Secret {
	w.t.Helper()
	s := &corev1.Secret{}
	w.must(w.Get(w.t.Context(), client.ObjectKey{Namespace: w.namespace, Name: name}, s))
	return s
}

func (w *world) edit(object client.Object, change func()) {
	w.t.Helper()
	before, ok := object.DeepCopyObject().(client.Object)
	if !ok {
		w.t.Fatal("not an object")
	}
	change()
	w.must(w.Patch(w.t.Context(), object, client.MergeFrom(before)))
}

// poke makes the manager look at a grant again, as the passing of time would.
func (w *world) poke(name string) {
	w.t.Helper()
	g := w.grant(name)
	w.edit(g, func() { metav1.SetMetaDataAnnotation(&g.ObjectMeta, "test/poke", w.clock.Now().String()) })
}

// advance moves the clock and makes the manager look.
func (w *world) advance(by time.Duration, grants ...string) {
	w.t.Helper()
	w.clock.SetTime(w.clock.Now().Add(by))
	for _, name := range grants {
		w.poke(name)
	}
	w.pokePages()
}

func (w *world) condition(name, kind string) metav1.Condition {
	w.t.Helper()
	for _, c := range w.grant(name).Status.Conditions {
		if c.Type == kind {
			return c
		}
	}
	return metav1.Condition{}
}

func (w *world) eventuallyCondition(name, kind string, status metav1.ConditionStatus, reason string) {
	w.t.Helper()
	w.eventually(fmt.Sprintf("%s: %s=%s/%s", name, kind, status, reason), func() bool {
		c := w.condition(name, kind)
		return c.Status == status && c.Reason == reason
	})
}

// requestLog counts what the manager sends to the API server, watches and leases apart.
type requestLog struct {
	mu   sync.Mutex
	seen []string
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func (l *requestLog) wrap(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		query := r.URL.Query()
		if !query.Has("watch") && !query.Has("limit") && !strings.Contains(r.URL.Path, "/events") && strings.Contains(r.URL.Path, "/namespaces/") {
			l.mu.Lock()
			l.seen = append(l.seen, r.Method+" "+r.URL.Path[strings.Index(r.URL.Path, "/namespaces/")+len("/namespaces/"):])
			l.mu.Unlock()
		}
		return next.RoundTrip(r)
	})
}

func (l *requestLog) total() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.seen)
}

// take returns what was sent since the last take.
func (l *requestLog) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	seen := l.seen
	l.seen = nil
	return seen
}

// logBuffer keeps the manager's log.
type logBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logBuffer) logger() logr.Logger {
	return funcr.New(func(prefix, args string) {
		l.mu.Lock()
		defer l.mu.Unlock()
		fmt.Fprintln(&l.b, prefix, args)
	}, funcr.Options{})
}

func (l *logBuffer) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func keyOf(object client.Object) client.ObjectKey { return client.ObjectKeyFromObject(object) }
