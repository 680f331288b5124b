package controllers

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/budget"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/desired"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/plan"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
)

// InstanceReconciler connects each MqttInstance to the service and says whether the connection works.
type InstanceReconciler struct {
	client.Client
	// Live reads from the API server, past all caches.
	Live        client.Reader
	Connections *Connections
	Dial        token.Dialer
	Clock       clock.PassiveClock
	Events      events.EventRecorder
	// Credentials tells of changed credential Secrets.
	Credentials *CredentialWatch
	// AllowedEndpoints are the endpoints, beside the service's own, that an instance may name; each a host, with its port.
	AllowedEndpoints []string

	// written holds the resource version of our last write to each instance. One worker uses it.
	written map[types.NamespacedName]string
}

// countDelay gathers what happens to an instance's grants into one status write.
const countDelay = 10 * time.Second

// +kubebuilder:rbac:groups=mqtt.tokengrant.dev,resources=mqttinstances,verbs=get;list;watch
// +kubebuilder:rbac:groups=mqtt.tokengrant.dev,resources=mqttinstances/status,verbs=patch

// Reconcile makes one pass over an instance. A connection that works is left alone: while nothing changes, this costs
// no call and no write.
func (r *InstanceReconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	instance := &v1alpha1.MqttInstance{}
	if err := r.Get(ctx, request.NamespacedName, instance); err != nil {
		r.Credentials.Stop(request.NamespacedName)
		delete(r.written, request.NamespacedName)
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if isOlder(instance.ResourceVersion, r.written[request.NamespacedName]) {
		return ctrl.Result{RequeueAfter: cacheLag}, nil
	}
	now := r.Clock.Now()
	description, p, err := r.describe(ctx, instance)
	if err != nil {
		r.Connections.touch(request.NamespacedName)
		return ctrl.Result{}, err
	}
	found := r.connect(ctx, instance, description, p, now)
	grants, err := r.count(ctx, request.NamespacedName)
	if err != nil {
		return ctrl.Result{}, err
	}
	return r.report(ctx, instance, found, grants, now)
}

// describe reads what the instance's spec points to. A problem is the platform team's to solve; an error is the API
// server's.
func (r *InstanceReconciler) describe(ctx context.Context, instance *v1alpha1.MqttInstance) (token.Connection, *problem, error) {
	if p := r.endpointProblem(instance.Spec); p != nil {
		return token.Connection{}, p, nil
	}
	credential, p, err := r.readCredential(ctx, instance)
	if err != nil || p != nil {
		return token.Connection{}, p, err
	}
	spec := instance.Spec
	d := token.Connection{
		InstanceID: spec.InstanceID, Region: spec.RegionID, VPC: spec.Network == v1alpha1.NetworkVPC, Endpoint: spec.Endpoint,
		AccessKeyID: credential.accessKeyID, AccessKeySecret: credential.secret, SecurityToken: credential.securityToken,
	}
	if spec.CABundle != "" {
		d.CABundle = []byte(spec.CABundle)
	}
	return d, nil, nil
}

// connect makes sure that the registry holds a link made from the description, checked at the service, and returns what
// is in the way of that.
func (r *InstanceReconciler) connect(ctx context.Context, instance *v1alpha1.MqttInstance, d token.Connection, p *problem, now time.Time) finding {
	key := client.ObjectKeyFromObject(instance)
	before, h := r.Connections.get(key)
	if p != nil {
		r.Connections.set(key, before, health{})
		return finding{problem: p}
	}
	l := before
	if version := versionOf(d, instance.Spec); before == nil || before.version != version {
		service, err := r.Dial(d)
		if err != nil {
			r.Connections.set(key, before, health{})
			p := classify(token.AsError(err))
			p.stalled = true
			return finding{problem: &p}
		}
		l = newLink(service, d, instance.Spec, version)
		h = health{}
	}
	switch {
	case h.retryAt.After(now):
	case h.usable():
		h = health{checked: true} // the trial is over, if there was one, and nobody saw the fault again
	default:
		h = r.check(ctx, l, h, instance, now)
	}
	r.Connections.set(key, l, h)
	if fault := cmp.Or(h.fault, h.suspect); fault != nil {
		p := classify(fault)
		return finding{link: l, problem: &p, retryAt: h.retryAt}
	}
	return finding{link: l}
}

// check asks the service about a token that cannot exist: any answer but a refusal of the caller shows that endpoint,
// key and instance fit together. What it answers about the token does not matter, nor that it may call it nonsense.
func (r *InstanceReconciler) check(ctx context.Context, l *link, before health, instance *v1alpha1.MqttInstance, now time.Time) health {
	_, err := l.service.Query(ctx, token.NewValue("credential-check"))
	fault := token.AsError(err)
	if err == nil || fault.Kind == token.KindInvalid {
		return before.passed(now)
	}
	return before.failed(fault, now.Add(plan.Backoff(before.failures+1, string(instance.UID))))
}

func newLink(service token.Service, d token.Connection, spec v1alpha1.MqttInstanceSpec, version string) *link {
	l := &link{
		service: service, instanceID: spec.InstanceID, keyID: spec.ClientAccessKeyID, version: version,
		budget: budget.New(map[budget.Operation]int32{
			budget.Apply: spec.Quota.ApplyPerSecond, budget.Revoke: spec.Quota.RevokePerSecond,
		}),
	}
	if l.keyID == "" {
		l.keyID = d.AccessKeyID
	}
	return l
}

// versionOf identifies everything that a link is made from. The secrets in it are only ever hashed.
func versionOf(d token.Connection, spec v1alpha1.MqttInstanceSpec) string {
	text := fmt.Sprintf("%q %q %t %q %q %q %q %v", d.InstanceID, d.Region, d.VPC, d.Endpoint, d.CABundle, d.AccessKeyID, spec.ClientAccessKeyID, spec.Quota)
	return token.NewValue(text + d.AccessKeySecret.Reveal() + "\n" + d.SecurityToken.Reveal()).Fingerprint("connection")
}

func (r *InstanceReconciler) count(ctx context.Context, instance types.NamespacedName) (v1alpha1.GrantCounts, error) {
	var grants v1alpha1.MqttTokenGrantList
	if err := r.List(ctx, &grants, client.MatchingFields{instanceIndex: instance.String()}); err != nil {
		return v1alpha1.GrantCounts{}, fmt.Errorf("counting the grants of %s: %w", instance, err)
	}
	total, ready := int32(len(grants.Items)), int32(0) //nolint:gosec // far below 2^31
	for i := range grants.Items {
		if isReady(grants.Items[i].Status.Conditions) {
			ready++
		}
	}
	return v1alpha1.GrantCounts{Total: &total, Ready: &ready}, nil
}

// SetupWithManager registers the controller and its watches. The grant controller must be registered too: it owns the
// index that counting needs.
func (r *InstanceReconciler) SetupWithManager(mgr ctrl.Manager) error {
	r.written = map[types.NamespacedName]string{}
	if err := mgr.Add(r.Credentials); err != nil {
		return fmt.Errorf("adding the credential watch: %w", err)
	}
	return ctrl.NewControllerManagedBy(mgr).
		For(&v1alpha1.MqttInstance{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&v1alpha1.MqttTokenGrant{}, countLater(), builder.WithPredicates(countChanged())).
		WatchesRawSource(r.Connections.wakeInstance.source(itself)).
		WatchesRawSource(r.Credentials.changed.source(itself)).
		Complete(r)
}

// countLater looks at a grant's instance after a while, once for all that happens until then.
func countLater() handler.EventHandler {
	enqueue := func(object client.Object, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) {
		if grant, ok := object.(*v1alpha1.MqttTokenGrant); ok {
			queue.AddAfter(reconcile.Request{NamespacedName: desired.InstanceKey(grant)}, countDelay)
		}
	}
	return handler.Funcs{
		CreateFunc: func(_ context.Context, e event.CreateEvent, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) {
			enqueue(e.Object, queue)
		},
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) {
			enqueue(e.ObjectOld, queue)
			enqueue(e.ObjectNew, queue)
		},
		DeleteFunc: func(_ context.Context, e event.DeleteEvent, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) {
			enqueue(e.Object, queue)
		},
	}
}

// countChanged lets updates through that change a count: another instance, or another readiness.
func countChanged() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		before, okBefore := e.ObjectOld.(*v1alpha1.MqttTokenGrant)
		after, okAfter := e.ObjectNew.(*v1alpha1.MqttTokenGrant)
		return okBefore && okAfter && (desired.InstanceKey(before) != desired.InstanceKey(after) ||
			isReady(before.Status.Conditions) != isReady(after.Status.Conditions))
	}}
}
