package controllers

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/credsecret"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/ledger"
)

// OrphanReconciler lets token Secrets go that are being deleted and whose grant is gone: their tokens reach the ledger
// first. As long as the grant exists, its Secret is the grant controller's.
type OrphanReconciler struct {
	client.Client
	// Live reads from the API server, past all caches.
	Live        client.Reader
	Ledger      *Ledger
	Connections *Connections
	Clock       clock.PassiveClock
	// ClusterID tells this cluster's Secrets from those that a backup brought from another one.
	ClusterID string

	// crowded says since when a Secret waits for room in the ledger. One worker uses it.
	crowded map[types.NamespacedName]time.Time
}

const (
	// orphanPatience is how long a Secret waits for room in the ledger before it goes without.
	orphanPatience = 10 * time.Minute
	// orphanRecheck is how often it looks meanwhile.
	orphanRecheck = 30 * time.Second
)

// Reconcile makes one pass over a token Secret.
func (r *OrphanReconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	meta := &metav1.PartialObjectMetadata{}
	meta.SetGroupVersionKind(secretKind())
	if err := r.Get(ctx, request.NamespacedName, meta); err != nil || !isLeaving(meta) {
		delete(r.crowded, request.NamespacedName)
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	lives, err := r.grantLives(ctx, meta)
	if err != nil || lives {
		return ctrl.Result{}, err
	}
	secret := &corev1.Secret{}
	if err := r.Live.Get(ctx, request.NamespacedName, secret); err != nil || !isLeaving(secret) {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	found, err := r.orphansIn(ctx, secret)
	if err != nil {
		return ctrl.Result{}, err
	}
	switch err := r.Ledger.enterOrphans(ctx, found.grant, found.grantUID, found.entries, found.now); {
	case errors.Is(err, ledger.ErrFull) && r.mayWait(request.NamespacedName, found.now):
		return ctrl.Result{RequeueAfter: orphanRecheck}, nil
	case errors.Is(err, ledger.ErrFull):
		found.forget()
	case err != nil:
		return ctrl.Result{}, err
	}
	return ctrl.Result{}, r.release(ctx, secret, found)
}

// mayWait reports whether a Secret may go on waiting for room in the ledger.
func (r *OrphanReconciler) mayWait(secret types.NamespacedName, now time.Time) bool {
	since, waits := r.crowded[secret]
	if !waits {
		since, r.crowded[secret] = now, now
	}
	return now.Before(since.Add(orphanPatience))
}

// isLeaving reports whether a Secret of ours is being deleted and waits for us.
func isLeaving(secret client.Object) bool {
	return !secret.GetDeletionTimestamp().IsZero() && controllerutil.ContainsFinalizer(secret, v1alpha1.GrantFinalizer)
}

// grantLives reports whether the grant exists whose Secret this is. The cache may not have it yet, so that a missing one
// is looked for at the API server, too.
func (r *OrphanReconciler) grantLives(ctx context.Context, secret client.Object) (bool, error) {
	name, uid := grantOfSecret(secret)
	if uid == "" {
		return false, nil
	}
	known, err := r.Ledger.grant(ctx, uid)
	if err != nil || known != nil {
		return known != nil && secretKey(known) == client.ObjectKeyFromObject(secret), err
	}
	grant := &v1alpha1.MqttTokenGrant{}
	if err := r.Live.Get(ctx, name, grant); err != nil && !apierrors.IsNotFound(err) {
		return false, fmt.Errorf("looking for the grant of Secret %s: %w", client.ObjectKeyFromObject(secret), err)
	}
	return grant.UID == uid && secretKey(grant) == client.ObjectKeyFromObject(secret), nil
}

// grantOfSecret reads from a token Secret which grant it belongs to. The UID is empty where the Secret does not say it, or
// says what is none. The name is a guess where somebody removed it.
func grantOfSecret(secret client.Object) (types.NamespacedName, types.UID) {
	name, uid := secret.GetLabels()[credsecret.GrantLabel], types.UID(secret.GetAnnotations()[credsecret.GrantUIDAnnotation])
	if owner := metav1.GetControllerOf(secret); owner != nil && owner.Kind == "MqttTokenGrant" {
		name, uid = owner.Name, owner.UID
	}
	if name == "" {
		name = secret.GetName()
	}
	if len(validation.IsDNS1123Label(string(uid))) > 0 {
		uid = ""
	}
	return types.NamespacedName{Namespace: secret.GetNamespace(), Name: name}, uid
}

// release takes the finalizer off the Secret that was read.
func (r *OrphanReconciler) release(ctx context.Context, secret *corev1.Secret, found orphans) error {
	before := secret.DeepCopy()
	controllerutil.RemoveFinalizer(secret, v1alpha1.GrantFinalizer)
	if err := r.Patch(ctx, secret, onlyIfUnchanged(before)); err != nil {
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("letting Secret %s go: %w", client.ObjectKeyFromObject(secret), err)
	}
	if found.left > 0 || found.why != "" {
		log.FromContext(ctx).Info("A token Secret whose grant is gone was let go; some of its tokens cannot be revoked and stay alive",
			"why", found.why, "tokens", found.left, "until", found.until)
	}
	return nil
}

// SetupWithManager registers the controller and its watches.
func (r *OrphanReconciler) SetupWithManager(mgr ctrl.Manager) error {
	r.crowded = map[types.NamespacedName]time.Time{}
	return ctrl.NewControllerManagedBy(mgr).Named("orphan").
		WatchesMetadata(&corev1.Secret{}, &handler.EnqueueRequestForObject{}, builder.WithPredicates(predicate.NewPredicateFuncs(isLeaving))).
		Watches(&v1alpha1.MqttTokenGrant{}, handler.EnqueueRequestsFromMapFunc(secretOfGrant), builder.WithPredicates(onlyDeletions())).
		Complete(r)
}

// secretOfGrant has the Secret of a grant looked at that went without its finalizer, by force.
func secretOfGrant(_ context.Context, object client.Object) []reconcile.Request {
	grant, ok := object.(*v1alpha1.MqttTokenGrant)
	if !ok {
		return nil
	}
	return []reconcile.Request{{NamespacedName: secretKey(grant)}}
}

func onlyDeletions() predicate.Predicate {
	return predicate.Funcs{
		CreateFunc:  func(event.CreateEvent) bool { return false },
		UpdateFunc:  func(event.UpdateEvent) bool { return false },
		GenericFunc: func(event.GenericEvent) bool { return false },
	}
}
