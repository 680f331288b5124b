package controllers

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/credsecret"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/ledger"
)

// LedgerReconciler revokes what is on the pages of the ledger, each token when its time has come.
type LedgerReconciler struct {
	client.Client
	Ledger      *Ledger
	Connections *Connections
	Clock       clock.PassiveClock
	Events      events.EventRecorder
	// Rollouts knows whose consumers have their new tokens; nil: nobody waits for consumers.
	Rollouts *Rollouts

	recent *recentPages
}

const (
	// ledgerWorkers is how many pages are worked on at the same time: a few accounts' worth of revokes under way.
	ledgerWorkers = 4
	// linkRecheck is how often a page looks for a link that nobody told it of.
	linkRecheck = 5 * time.Minute
	// graceInUse is how long a token that its grant's Secret still offers to clients is kept from being revoked: the manager
	// may have died between the ledger and the Secret, and the client has no other token until that is made up for. Whoever
	// forges the Secret's facts gains as much.
	graceInUse = 10 * time.Minute
	// nextToken lets other pages take turns with one that has more to revoke.
	nextToken = 10 * time.Millisecond
)

// Reconcile makes one pass over a page. Its metadata suffice to see whether something is to be done now.
func (r *LedgerReconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	seen, found, err := r.observe(ctx, request.Name)
	if err != nil || !found {
		return ctrl.Result{}, err
	}
	next := seen.decide()
	if wait := r.turn(seen, next); wait > 0 {
		return ctrl.Result{RequeueAfter: wait}, nil
	}
	if next.idle() {
		return comeBackAt(next.at, seen.now), nil
	}
	if err := r.act(ctx, seen, next); err != nil {
		return ctrl.Result{}, err
	}
	if seen, found, err = r.observe(ctx, request.Name); err != nil || !found {
		return ctrl.Result{}, err
	}
	if next = seen.decide(); !next.idle() {
		return ctrl.Result{RequeueAfter: nextToken}, nil
	}
	return comeBackAt(next.at, seen.now), nil
}

func comeBackAt(at, now time.Time) ctrl.Result {
	if at.IsZero() {
		return ctrl.Result{}
	}
	return ctrl.Result{RequeueAfter: pause(ceilSecond(at), now)}
}

// ceilSecond rounds up, so that whoever comes back then is not too early.
func ceilSecond(t time.Time) time.Time {
	if whole := t.Truncate(time.Second); whole.Before(t) {
		return whole.Add(time.Second)
	}
	return t
}

// pageObservation is everything known about a page at one moment.
type pageObservation struct {
	pageView
	recent recentPage
	// inUse holds the fingerprints of the tokens that the grant's Secret offers to clients.
	inUse map[string]bool
	// rolling says that consumers of the grant are yet to be restarted with its new tokens.
	rolling bool
	// link finds the link over which a token can be revoked now; nil if there is none.
	link func(ledger.EntryFacts) *link
	now  time.Time // by the service's clock
}

// observe gathers what the caches know; a page that is gone is forgotten.
func (r *LedgerReconciler) observe(ctx context.Context, name string) (seen pageObservation, found bool, err error) {
	view, found := r.Ledger.index.of(name)
	if !found {
		r.recent.forget(name)
		return pageObservation{}, false, nil
	}
	seen = pageObservation{pageView: view, recent: r.recent.of(name), link: r.linkFor, now: r.serviceTime(view.facts)}
	if len(view.facts.Due(seen.now)) > 0 {
		err = r.lookAtConsumers(ctx, &seen)
	}
	return seen, true, err
}

// serviceTime is the moment by the clock of the service that the tokens are of, which ends them by it. Where a page has
// tokens of several, the clock counts that is the farthest behind: no token is taken for over that is not.
func (r *LedgerReconciler) serviceTime(page ledger.Facts) time.Time {
	now := r.Clock.Now()
	if len(page.Entries) == 0 {
		return now
	}
	behind := r.Connections.offset(nameOf(page.Entries[0].Instance))
	for _, e := range page.Entries[1:] {
		behind = min(behind, r.Connections.offset(nameOf(e.Instance)))
	}
	return now.Add(behind)
}

// linkFor finds the link of the instance that issued the token, while it works. The MqttInstance may be gone, or be
// another one of the same name.
func (r *LedgerReconciler) linkFor(e ledger.EntryFacts) *link {
	l := r.Connections.lastGood(nameOf(e.Instance))
	if l == nil || !issuedBy(e.Client, l.instanceID) {
		return nil
	}
	return l
}

// lookAtConsumers reads from the cache what the grant's Secret says that it holds, and whether consumers that cannot reload
// have that.
func (r *LedgerReconciler) lookAtConsumers(ctx context.Context, seen *pageObservation) error {
	grant, err := r.Ledger.grant(ctx, types.UID(seen.facts.GrantUID))
	if grant == nil {
		return err
	}
	secret := &metav1.PartialObjectMetadata{}
	secret.SetGroupVersionKind(secretKind())
	if err := r.Get(ctx, secretKey(grant), secret); err != nil {
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("reading Secret %s from the cache: %w", secretKey(grant), err)
	}
	facts, err := credsecret.ReadFacts(&secret.ObjectMeta)
	if err != nil {
		return nil //nolint:nilerr // what cannot be read offers nothing
	}
	seen.inUse = map[string]bool{}
	var newest time.Time
	for _, t := range facts.Tokens {
		seen.inUse[t.Fingerprint] = true
		if t.Issued.After(newest) {
			newest = t.Issued
		}
	}
	seen.rolling = r.Rollouts != nil && len(grant.Spec.RolloutRestartTargets) > 0 && !r.Rollouts.have(grant.UID, newest.Truncate(time.Second))
	return nil
}

// SetupWithManager registers the controller and its watches.
func (r *LedgerReconciler) SetupWithManager(mgr ctrl.Manager) error {
	r.recent = newRecentPages()
	return ctrl.NewControllerManagedBy(mgr).Named("ledger").
		WatchesRawSource(r.Ledger.pages()).
		WatchesRawSource(r.Connections.wakeLedger.source(r.pagesOf)).
		WatchesMetadata(&corev1.Secret{}, handler.EnqueueRequestsFromMapFunc(r.pageOf)).
		WithOptions(controller.Options{MaxConcurrentReconciles: ledgerWorkers}).
		Complete(r)
}

func (r *LedgerReconciler) pagesOf(_ context.Context, instance types.NamespacedName) []reconcile.Request {
	return r.Ledger.requests(instance.String())
}

// pageOf finds the page of a token Secret's grant: what the Secret offers to clients decides what may be revoked.
func (r *LedgerReconciler) pageOf(_ context.Context, secret client.Object) []reconcile.Request {
	name := ledger.Name(secret.GetAnnotations()[credsecret.GrantUIDAnnotation])
	if _, found := r.Ledger.index.of(name); !found {
		return nil
	}
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: r.Ledger.Namespace, Name: name}}}
}

// logDamage tells once of a page that somebody damaged.
func (r *LedgerReconciler) logDamage(ctx context.Context, name string, page ledger.Page) {
	damage := page.Damage()
	if damage == nil || r.recent.of(name).damageTold {
		return
	}
	r.recent.note(name, func(p *recentPage) { p.damageTold = true })
	log.FromContext(ctx).Error(damage, "A page of the ledger is damaged; what cannot be read is not revoked and expires by itself", "grant", page.Grant)
}
