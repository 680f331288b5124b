package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/controllers"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/aliyun"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/metrics"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/probe"
)

// +kubebuilder:rbac:groups=coordination.k8s.io,namespace=mqtt-token-system,resources=leases,verbs=get;create;update
// +kubebuilder:rbac:groups="",namespace=mqtt-token-system,resources=events,verbs=create;patch

// run wires the manager and runs it until the context ends.
func run(ctx context.Context, o options) error {
	// The HTTP transport prints what a confused peer sends to the standard logger, which could be a token.
	log.SetOutput(io.Discard)
	ctrl.SetLogger(zap.New(zap.UseDevMode(o.verbose)))
	ctx, end := context.WithCancel(ctx)
	defer end()
	api, err := connect()
	if err != nil {
		return err
	}
	served, err := newScope(ctx, api.reader, o.watchNamespaces)
	if err != nil {
		return err
	}
	if served.blind, err = isBlind(ctx, api.reader); err != nil {
		return err
	}
	if served.blind {
		ctrl.Log.WithName("namespaces").Info("The manager may not see namespaces: access rules that select them by labels other than their name match none")
	}
	leading := newFence(o.leaderElect)
	mgr, err := newManager(api, o, served, leading)
	if err != nil {
		return err
	}
	measured := metrics.New(ctrlmetrics.Registry)
	measured.SetUnservedNamespaces(len(served.closed))
	if err := addControllers(ctx, mgr, o, served, leading, measured); err != nil {
		return err
	}
	if err := addScope(mgr, api, served, end); err != nil {
		return err
	}
	return mgr.Start(ctx)
}

// apiServer is how to reach the API server, with a client that caches nothing for what must be known before there is a
// manager.
type apiServer struct {
	config *rest.Config
	kinds  *runtime.Scheme
	reader client.Reader
}

func connect() (apiServer, error) {
	config, err := ctrl.GetConfig()
	if err != nil {
		return apiServer{}, fmt.Errorf("finding the API server: %w", err)
	}
	config.QPS = -1 // the API server's own priority and fairness bounds us
	kinds := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{scheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(kinds); err != nil {
			return apiServer{}, fmt.Errorf("registering kinds: %w", err)
		}
	}
	reader, err := client.New(config, client.Options{Scheme: kinds})
	if err != nil {
		return apiServer{}, fmt.Errorf("making a client: %w", err)
	}
	return apiServer{config: config, kinds: kinds, reader: reader}, nil
}

func newManager(api apiServer, o options, served scope, leading *fence) (ctrl.Manager, error) {
	lock, lockEvents, err := newLock(api.config, o.namespace, leading, clock.RealClock{}.Now)
	if err != nil {
		return nil, err
	}
	newCache := controllers.NewCache
	if served.blind {
		newCache = controllers.NewBlindCache
	}
	mgr, err := ctrl.NewManager(api.config, ctrl.Options{
		Scheme: api.kinds, NewCache: newCache, Cache: controllers.CacheOptions(served.open...),
		NewClient:              fencedClient(leading, clock.RealClock{}.Now),
		Metrics:                metricsOptions(o),
		HealthProbeBindAddress: o.probeAddress,
		LeaderElection:         o.leaderElect, LeaderElectionID: leaseName, LeaderElectionNamespace: o.namespace,
		LeaderElectionResourceLockInterface: lock,
		LeaseDuration:                       new(leaseDuration), RenewDeadline: new(renewDeadline), RetryPeriod: new(retryPeriod),
		LeaderElectionReleaseOnCancel: true, // nothing runs after Start has returned
	})
	if err != nil {
		return nil, fmt.Errorf("making the manager: %w", err)
	}
	lockEvents.recordBy(mgr, lock)
	if err := mgr.AddHealthzCheck("ping", healthz.Ping); err != nil {
		return nil, err
	}
	return mgr, mgr.AddReadyzCheck("ping", healthz.Ping)
}

func addControllers(ctx context.Context, mgr ctrl.Manager, o options, served scope, leading *fence, measured *metrics.Metrics) error {
	cluster, err := clusterID(ctx, mgr.GetAPIReader(), o.clusterID)
	if err != nil {
		return err
	}
	secrets, err := metadata.NewForConfigAndClient(mgr.GetConfig(), mgr.GetHTTPClient())
	if err != nil {
		return fmt.Errorf("making the metadata client: %w", err)
	}
	connections := controllers.NewConnections()
	wall := clock.RealClock{}
	pages := &controllers.Ledger{Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Namespace: o.namespace, Gauge: measured}
	guard := controllers.NewMassGuard(mgr.GetClient(), connections)
	grants := &controllers.GrantReconciler{
		Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Connections: connections, Ledger: pages, Guard: guard, Clock: wall,
		Events: mgr.GetEventRecorder("mqtt-token-operator"), ClusterID: cluster,
		RevocationDeadline: o.revocationDeadline, VerifyInterval: o.verifyInterval, Blind: served.blind, RolloutRestarts: o.rolloutRestarts,
	}
	if err := grants.SetupWithManager(ctx, mgr, o.workers); err != nil {
		return fmt.Errorf("adding the grant controller: %w", err)
	}
	providers := aliyun.NewProviderTransport()
	http.DefaultTransport = providers // the vendor's credential providers take no other
	vendor := aliyun.NewVendor(aliyun.Options{UserAgent: "mqtt-token-operator", Calls: measured, Providers: providers, Now: wall.Now})
	instances := &controllers.InstanceReconciler{
		Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Connections: connections, Clock: wall,
		Events: mgr.GetEventRecorder("mqtt-token-operator"),
		Dial:   fenced(vendor.Dial, leading, wall.Now), Credentials: controllers.NewCredentialWatch(secrets), AllowedEndpoints: o.allowedEndpoints,
		IdentityNamespaces: o.lendsIdentityTo(), Probe: probe.Ask, AccountOf: vendor.AccountID,
		Guard: guard, Ledger: pages, Skew: measured, RevocationDeadline: o.revocationDeadline,
	}
	if err := instances.SetupWithManager(mgr); err != nil {
		return fmt.Errorf("adding the instance controller: %w", err)
	}
	rollouts, err := addRollouts(mgr, o, pages)
	if err != nil {
		return err
	}
	return addLedger(ctx, mgr, pages, connections, rollouts, cluster)
}

// addRollouts adds what restarts consumers, if it is wanted; otherwise nil.
func addRollouts(mgr ctrl.Manager, o options, pages *controllers.Ledger) (*controllers.Rollouts, error) {
	if !o.rolloutRestarts {
		return nil, nil //nolint:nilnil // that there is none is what nil says
	}
	rollouts := controllers.NewRollouts()
	restarting := &controllers.RolloutReconciler{
		Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Clock: clock.RealClock{}, Events: mgr.GetEventRecorder("mqtt-token-operator"),
		Rollouts: rollouts, Ledger: pages,
	}
	if err := restarting.SetupWithManager(mgr); err != nil {
		return nil, fmt.Errorf("adding the rollout controller: %w", err)
	}
	return rollouts, nil
}

// addLedger adds what revokes tokens that no grant waits for.
func addLedger(ctx context.Context, mgr ctrl.Manager, pages *controllers.Ledger, connections *controllers.Connections, rollouts *controllers.Rollouts, cluster string) error {
	wall := clock.RealClock{}
	if err := pages.SetupWithManager(ctx, mgr); err != nil {
		return fmt.Errorf("adding the ledger: %w", err)
	}
	revoking := &controllers.LedgerReconciler{
		Client: mgr.GetClient(), Ledger: pages, Connections: connections, Clock: wall, Events: mgr.GetEventRecorder("mqtt-token-operator"),
		Rollouts: rollouts,
	}
	if err := revoking.SetupWithManager(mgr); err != nil {
		return fmt.Errorf("adding the ledger controller: %w", err)
	}
	orphans := &controllers.OrphanReconciler{
		Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Ledger: pages, Connections: connections, Clock: wall, ClusterID: cluster,
	}
	if err := orphans.SetupWithManager(mgr); err != nil {
		return fmt.Errorf("adding the orphan controller: %w", err)
	}
	return nil
}

// addScope adds what a manager needs that serves some namespaces only.
func addScope(mgr ctrl.Manager, api apiServer, served scope, end func()) error {
	if served.all {
		return nil
	}
	bindings := &controllers.NamespaceReconciler{Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Namespaces: served.open, Blind: served.blind}
	if err := bindings.SetupWithManager(mgr); err != nil {
		return fmt.Errorf("adding the namespace controller: %w", err)
	}
	if len(served.closed) == 0 {
		return nil
	}
	if err := mgr.Add(&lookout{reader: api.reader, closed: served.closed, clock: clock.RealClock{}, end: end}); err != nil {
		return fmt.Errorf("adding the lookout for namespaces: %w", err)
	}
	return nil
}

// clusterID is what distinguishes this cluster from every other one: what the command line says, or the UID of a namespace
// that each has.
func clusterID(ctx context.Context, reader client.Reader, stated string) (string, error) {
	if stated != "" {
		return stated, nil
	}
	namespace := &metav1.PartialObjectMetadata{}
	namespace.SetGroupVersionKind(controllers.NamespaceKind())
	if err := reader.Get(ctx, types.NamespacedName{Name: metav1.NamespaceSystem}, namespace); err != nil {
		return "", fmt.Errorf("reading namespace %s, whose UID tells this cluster from others unless --cluster-id does: %w", metav1.NamespaceSystem, err)
	}
	return string(namespace.UID), nil
}
