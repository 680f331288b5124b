// Package controllers is the only code of the project that talks to the API server. Each pass over an object goes the
// same way: observe what is (reads only), let a pure package decide, act on the decision, report in one write.
package controllers

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/desired"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/plan"
)

// GrantReconciler keeps the tokens of each MqttTokenGrant valid in its Secret.
type GrantReconciler struct {
	client.Client
	// Live reads from the API server, past all caches.
	Live        client.Reader
	Connections *Connections
	Ledger      *Ledger
	Guard       *MassGuard
	Clock       clock.PassiveClock
	Events      events.EventRecorder
	// ClusterID tells this cluster's Secrets from those that a backup brought from another one.
	ClusterID string
	// RevocationDeadline is how long a deletion waits for the service to revoke; then the ledger takes over what is left.
	RevocationDeadline time.Duration
	// VerifyInterval is how often the service is asked whether each token is still valid; zero: never.
	VerifyInterval time.Duration
	// Blind says that the manager may not see namespaces.
	Blind bool
	// RolloutRestarts says that workloads are restarted when tokens change.
	RolloutRestarts bool

	recent *recent
}

// cacheLag is how long to wait for a cache that does not show our own last write yet.
const cacheLag = 50 * time.Millisecond

// +kubebuilder:rbac:groups=mqtt.tokengrant.dev,resources=mqtttokengrants,verbs=get;list;watch;patch
// +kubebuilder:rbac:groups=mqtt.tokengrant.dev,resources=mqtttokengrants/status,verbs=patch
// +kubebuilder:rbac:groups=mqtt.tokengrant.dev,resources=mqtttokengrants/finalizers,verbs=update
// +kubebuilder:rbac:groups="",resources=secrets,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups="",resources=namespaces,verbs=get;list;watch,roleName=mqtt-token-operator-manager-cluster
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// Reconcile makes one pass over a grant. The caches suffice to see that nothing is to be done; anything else is decided
// again on what the API server says now.
func (r *GrantReconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	grant := &v1alpha1.MqttTokenGrant{}
	if err := r.Get(ctx, request.NamespacedName, grant); err != nil {
		r.recent.forget(request.NamespacedName)
		r.Guard.forget(request.NamespacedName)
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	seen, err := r.observe(ctx, grant)
	if err != nil {
		return ctrl.Result{}, err
	}
	if r.cachesLag(seen) {
		return ctrl.Result{RequeueAfter: cacheLag}, nil
	}
	decision := seen.decide()
	if wait := r.turn(seen, decision); wait > 0 {
		return ctrl.Result{RequeueAfter: r.untilOverdue(seen, wait)}, nil
	}
	if decision.Verb != plan.Keep && decision.Verb != plan.Wait || r.mayHaveMissed(seen) || seen.mustLookCloser() {
		if seen, err = r.observeLive(ctx, grant); err != nil {
			return ctrl.Result{}, client.IgnoreNotFound(err)
		}
		decision = seen.decide()
	}
	return r.report(ctx, seen, r.act(ctx, seen, decision))
}

// decide is plan.Decide, save for a spec that cannot be understood: that is waited out, except by a deletion or a hold.
func (seen observation) decide() plan.Decision {
	if seen.specErr != nil && !seen.input.Deleting && !seen.input.OnHold {
		return plan.Decision{Verb: plan.Wait, Reason: reasonInvalidSpec}
	}
	return plan.Decide(seen.input)
}

// reasonInvalidSpec is a decision's reason that plan does not know: it sees only specs that can be understood.
const reasonInvalidSpec plan.Reason = "SpecNotUnderstood"

// cachesLag reports whether what the caches show is older than what this process wrote.
func (r *GrantReconciler) cachesLag(seen observation) bool {
	last := r.recent.of(seen.grant)
	return isOlder(seen.grant.ResourceVersion, last.grantVersion) || isOlder(seen.secret.meta.ResourceVersion, last.secretVersion)
}

// mayHaveMissed reports whether the cache shows no Secret although this process wrote one: deleted, or not seen yet?
func (r *GrantReconciler) mayHaveMissed(seen observation) bool {
	return seen.secret.state == plan.SecretMissing && r.recent.of(seen.grant).secretVersion != ""
}

// instanceIndex finds the grants of an instance.
const instanceIndex = "instance"

const grantKind = "MqttTokenGrant"

// SetupWithManager registers the controller and its watches.
func (r *GrantReconciler) SetupWithManager(ctx context.Context, mgr ctrl.Manager, workers int) error {
	r.recent = newRecent()
	for index, keys := range map[string]client.IndexerFunc{instanceIndex: instanceKeys, heirIndex: heirKeys, clientIDIndex: clientIDKeys} {
		if err := mgr.GetFieldIndexer().IndexField(ctx, &v1alpha1.MqttTokenGrant{}, index, keys); err != nil {
			return fmt.Errorf("indexing grants by %s: %w", index, err)
		}
	}
	made := ctrl.NewControllerManagedBy(mgr)
	if !r.Blind {
		made.WatchesMetadata(&corev1.Namespace{}, handler.EnqueueRequestsFromMapFunc(r.grantsIn), builder.WithPredicates(predicate.LabelChangedPredicate{}))
	}
	return made.
		For(&v1alpha1.MqttTokenGrant{}, builder.WithPredicates(specOrAnnotations())).
		Watches(&v1alpha1.MqttTokenGrant{}, handler.EnqueueRequestsFromMapFunc(r.rivalsOf), builder.WithPredicates(clientIDMoved())).
		WatchesMetadata(&corev1.Secret{}, handler.EnqueueRequestForOwner(mgr.GetScheme(), mgr.GetRESTMapper(), &v1alpha1.MqttTokenGrant{}, handler.OnlyControllerOwner())).
		Watches(&v1alpha1.MqttInstance{}, handler.EnqueueRequestsFromMapFunc(r.grantsOf), builder.WithPredicates(specOrAnnotations())).
		WatchesRawSource(r.Connections.wakeGrants.source(r.grantsOfInstance)).
		WatchesRawSource(r.Ledger.wakeGrants.source(itself)).
		WithOptions(controller.Options{MaxConcurrentReconciles: workers}).
		Complete(r)
}

// specOrAnnotations lets through what people ask for, and nothing that is only reported.
func specOrAnnotations() predicate.Predicate {
	return predicate.Or(predicate.GenerationChangedPredicate{}, predicate.AnnotationChangedPredicate{})
}

func instanceKeys(object client.Object) []string {
	if grant, ok := object.(*v1alpha1.MqttTokenGrant); ok {
		return []string{desired.InstanceKey(grant).String()}
	}
	return nil
}

func (r *GrantReconciler) grantsOf(ctx context.Context, instance client.Object) []reconcile.Request {
	return r.grantsOfInstance(ctx, client.ObjectKeyFromObject(instance))
}

func (r *GrantReconciler) grantsOfInstance(ctx context.Context, instance types.NamespacedName) []reconcile.Request {
	return r.requests(ctx, client.MatchingFields{instanceIndex: instance.String()})
}

func (r *GrantReconciler) grantsIn(ctx context.Context, namespace client.Object) []reconcile.Request {
	return r.requests(ctx, client.InNamespace(namespace.GetName()))
}

// requests lists grants from the cache. An error means that the cache is stopping, and with it the controller.
func (r *GrantReconciler) requests(ctx context.Context, which client.ListOption) []reconcile.Request {
	var grants v1alpha1.MqttTokenGrantList
	if err := r.List(ctx, &grants, which); err != nil {
		return nil
	}
	requests := make([]reconcile.Request, 0, len(grants.Items))
	for i := range grants.Items {
		requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&grants.Items[i])})
	}
	return requests
}
