package controllers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/time/rate"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/budget"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/plan"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/skew"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
)

// SkewGauge shows how far the service's clock is ahead of ours.
type SkewGauge interface {
	SetServiceClockSkew(ahead time.Duration)
}

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
	// Probe asks a broker whether it admits a token.
	Probe BrokerProbe
	// AccountOf asks which account a key belongs to; nil: nobody does.
	AccountOf token.AccountTeller
	// IdentityNamespaces are the namespaces whose instances may use the manager's own identity.
	IdentityNamespaces []string
	Guard              *MassGuard
	Ledger             *Ledger
	Skew               SkewGauge
	// RevocationDeadline is how long a deleted instance waits for revocations over it.
	RevocationDeadline time.Duration

	probes   *probes
	accounts *accounts
	// written holds the resource version of our last write to each instance. One worker uses it.
	written map[types.NamespacedName]string
	// writes bounds the writes of each instance's status. One worker uses it.
	writes map[types.NamespacedName]*rate.Limiter
	// closing holds when this process first saw an instance in deletion. One worker uses it.
	closing map[types.NamespacedName]time.Time
}

// +kubebuilder:rbac:groups=mqtt.tokengrant.dev,resources=mqttinstances,verbs=list;watch;patch
// +kubebuilder:rbac:groups=mqtt.tokengrant.dev,resources=mqttinstances/status,verbs=patch

// Reconcile makes one pass over an instance. A connection that works is left alone: while nothing changes, this costs
// no call and no write.
func (r *InstanceReconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	key := request.NamespacedName
	instance := &v1alpha1.MqttInstance{}
	if err := r.Get(ctx, key, instance); err != nil {
		r.Credentials.Stop(key)
		delete(r.written, key)
		delete(r.writes, key)
		delete(r.closing, key)
		r.probes.forget(key)
		if !apierrors.IsNotFound(err) {
			return ctrl.Result{}, err
		}
		return r.outlive(ctx, key), nil
	}
	if isOlder(instance.ResourceVersion, r.written[key]) {
		return ctrl.Result{RequeueAfter: cacheLag}, nil
	}
	now := r.Clock.Now()
	if gone, err := r.finalize(ctx, instance, now); gone || err != nil {
		return ctrl.Result{}, err
	}
	description, p, err := r.describe(ctx, instance)
	if err != nil {
		r.Connections.touch(key)
		return ctrl.Result{}, err
	}
	found := r.connect(ctx, instance, description, p, now)
	r.tendAccount(ctx, instance, description, now)
	found.link = r.Connections.get(key).link
	found.broker, found.probeAt = r.tendProbe(ctx, instance, found.link, now)
	if found.census, err = r.census(ctx, instance, now); err != nil {
		return ctrl.Result{}, err
	}
	return r.report(ctx, instance, found, now)
}

// describe reads what the instance's spec points to. A problem is the platform team's to solve; an error is the API
// server's.
func (r *InstanceReconciler) describe(ctx context.Context, instance *v1alpha1.MqttInstance) (token.Connection, *problem, error) {
	if p := r.endpointProblem(instance.Spec); p != nil {
		return token.Connection{}, p, nil
	}
	credential, p, err := r.credentialOf(ctx, instance)
	if err != nil || p != nil {
		return token.Connection{}, p, err
	}
	spec := instance.Spec
	d := token.Connection{
		OnDate:     r.Connections.clock(client.ObjectKeyFromObject(instance)).Observe,
		InstanceID: spec.InstanceID, Region: spec.RegionID, VPC: spec.Network == v1alpha1.NetworkVPC, Endpoint: spec.Endpoint,
		AccessKeyID: credential.accessKeyID, AccessKeySecret: credential.secret, SecurityToken: credential.securityToken,
		Identity: credential.identity,
	}
	if spec.CABundle != "" {
		d.CABundle = []byte(spec.CABundle)
	}
	return d, nil, nil
}

// connect makes sure that the registry holds a link made from the description, checked at the service, and returns what
// is in the way of that. A link that may not issue any more is kept, to revoke over it.
func (r *InstanceReconciler) connect(ctx context.Context, instance *v1alpha1.MqttInstance, d token.Connection, p *problem, now time.Time) finding {
	key, seed := client.ObjectKeyFromObject(instance), string(instance.UID)
	if p == nil {
		p = r.renew(instance, d, now)
	}
	r.Connections.change(key, func(e *entry) { e.closing, e.barred = !instance.DeletionTimestamp.IsZero(), p != nil })
	e, next := r.tend(ctx, key, seed, now)
	found := finding{link: e.link, problem: p, retryAt: next}
	if p != nil {
		return found
	}
	switch fault := e.health.shown; {
	case fault != nil:
		found.problem = r.faultProblem(fault, key)
	case !e.health.checked:
		found.problem = &problem{reason: v1alpha1.ReasonProgressing, silent: true, message: "The connection is about to be checked."}
	}
	return found
}

// renew makes a link from the description, unless there is one.
func (r *InstanceReconciler) renew(instance *v1alpha1.MqttInstance, d token.Connection, now time.Time) *problem {
	key, version := client.ObjectKeyFromObject(instance), versionOf(d, instance.Spec)
	if before := r.Connections.get(key).link; before != nil && before.version == version {
		return nil
	}
	service, err := r.Dial(d)
	if err != nil {
		p := classify(token.AsError(err))
		p.stalled = true
		return &p
	}
	l := r.newLink(service, d, instance, version, now)
	r.Connections.change(key, func(e *entry) { e.link, e.health = l, e.health.afresh() })
	return nil
}

// tend checks a link that is out of use when that is due, or ends its trial when that is over. It returns how the link
// stands then, and when something is due next; zero: nothing is.
func (r *InstanceReconciler) tend(ctx context.Context, key types.NamespacedName, seed string, now time.Time) (entry, time.Time) {
	e, next := r.Connections.get(key), time.Time{}
	switch {
	case e.link == nil:
		return e, next
	case e.health.checkDue(now):
		next = r.check(ctx, key, e.link, seed, now)
	case e.health.usable() && !e.health.retryAt.After(now):
		r.Connections.change(key, func(e *entry) { e.health.endTrial() })
	}
	e = r.Connections.get(key)
	if next.IsZero() && e.health.shown != nil {
		next = e.health.retryAt
	}
	return e, next
}

// check asks the service about a token that cannot exist: any answer but a refusal of the caller shows that endpoint,
// key and instance fit together. What it answers about the token does not matter, nor that it may call it nonsense. If
// that could not be asked, check says when to try again.
func (r *InstanceReconciler) check(ctx context.Context, key types.NamespacedName, l *link, seed string, now time.Time) time.Time {
	ask := budget.Ask{Operation: budget.Query, Lane: budget.QueryCheck, ID: "check/" + seed, N: 1}
	if wait := l.budget.Take(ask, now); wait > 0 {
		return now.Add(wait)
	}
	_, err := l.service.Query(ctx, token.NewValue("credential-check"))
	l.budget.Done(ask.Operation, ask.ID)
	fault := token.AsError(err)
	switch {
	case err == nil || fault.Kind == token.KindInvalid:
		recovered := false
		r.Connections.changeLink(key, l, func(h *health) { recovered = h.checkPassed(now) })
		if recovered {
			// Whoever was kept waiting comes back at once: not all managers at the same moment, and slowly at first.
			l.budget.Resume(now, plan.Spread(seed+now.String(), maxResumeDelay))
		}
	case fault.Code == token.CodeLeaseLost || errors.Is(err, context.Canceled):
		return now.Add(unaskedRecheck)
	case fault.Kind == token.KindThrottled:
		r.Connections.report(key, l, opQuery, err, now)
		return now.Add(max(unaskedRecheck, fault.RetryAfter))
	default:
		r.Connections.changeLink(key, l, func(h *health) { h.checkFailed(fault, now, seed) })
	}
	return time.Time{}
}

const (
	// maxResumeDelay spreads managers and instances that come back after the same outage.
	maxResumeDelay = 5 * time.Second
	// unaskedRecheck is when a check is tried again that got no answer for a reason that is not the service's: the manager
	// is about to end, or we call too much.
	unaskedRecheck = 10 * time.Second
)

// faultProblem words a fault of the instance. What the service refuses because of our clock, the clock explains.
func (r *InstanceReconciler) faultProblem(fault *token.Error, instance types.NamespacedName) *problem {
	p := classify(fault)
	if isAnswered(fault) && fault.Kind == token.KindInstance && r.Connections.offset(instance).Abs() > skew.MaxSigned {
		p.reason = v1alpha1.ReasonClockSkew
		p.message = fault.Code + ": the manager's clock is too far off the service's for signatures to be taken; status.clockSkewSeconds says how far. Set the clock of the manager's node."
	}
	return &p
}

// newLink makes a link that shares the budget of its account.
func (r *InstanceReconciler) newLink(service token.Service, d token.Connection, instance *v1alpha1.MqttInstance, version string, now time.Time) *link {
	l := &link{service: service, instanceID: instance.Spec.InstanceID, keyID: cmp.Or(instance.Spec.ClientAccessKeyID, d.AccessKeyID), version: version}
	l.account, l.budget = r.joinAccount(d, instance, now)
	return l
}

// versionOf identifies everything that a link is made from. The secrets in it are only ever hashed.
func versionOf(d token.Connection, spec v1alpha1.MqttInstanceSpec) string {
	text := fmt.Sprintf("%q %q %t %q %q %s %q %v\n", d.InstanceID, d.Region, d.VPC, d.Endpoint, d.CABundle, speakerID(d), spec.ClientAccessKeyID, spec.Quota)
	return token.NewValue(text + d.SecurityToken.Reveal()).Fingerprint("connection")
}

// SetupWithManager registers the controller and its watches. The grant controller must be registered too: it owns the
// index that counting needs.
func (r *InstanceReconciler) SetupWithManager(mgr ctrl.Manager) error {
	r.written, r.closing = map[types.NamespacedName]string{}, map[types.NamespacedName]time.Time{}
	r.probes, r.accounts = newProbes(), newAccounts()
	r.writes = map[types.NamespacedName]*rate.Limiter{}
	if err := mgr.Add(r.Credentials); err != nil {
		return fmt.Errorf("adding the credential watch: %w", err)
	}
	return ctrl.NewControllerManagedBy(mgr).
		For(&v1alpha1.MqttInstance{}, builder.WithPredicates(specOrAnnotations())).
		Watches(&v1alpha1.MqttTokenGrant{}, countLater(), builder.WithPredicates(countChanged())).
		WatchesRawSource(r.Ledger.wakeInstances.sourceAfter(countDelay, itself)).
		WatchesRawSource(r.Connections.wakeInstance.source(itself)).
		WatchesRawSource(r.Credentials.changed.source(itself)).
		Complete(r)
}
