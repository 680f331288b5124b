package controllers

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/credsecret"
)

// NamespaceReconciler is for a manager that a RoleBinding lets into each of its namespaces. A namespace in deletion takes
// that RoleBinding along, and whoever clears away grants may delete it together with them; the manager would then be
// left without the right to revoke, and to let go of what waits for that. So the RoleBinding carries our finalizer, and
// goes last. Its rules are in config/namespaced, as a manager that is let into all namespaces at once needs none of it.
type NamespaceReconciler struct {
	client.Client
	// Live reads from the API server, past all caches.
	Live client.Reader
	// Namespaces are those that the manager watches.
	Namespaces []string
	// Blind says that the manager may not see the namespaces themselves: it looks by the clock alone.
	Blind bool
}

// RoleBindingName is the name of the RoleBinding that lets the manager into a namespace.
const RoleBindingName = "mqtt-token-operator-manager"

const (
	// stayingRecheck is how often a namespace is looked at that nobody deletes: so long somebody may wait who withdraws the
	// RoleBinding after the last grant. It costs a read of the RoleBinding, and of memory only while grants are there.
	stayingRecheck = 10 * time.Second
	// leavingRecheck is the same while somebody waits for sure.
	leavingRecheck = time.Second
)

// Reconcile lets the RoleBinding go, if it is to go, when nothing in the namespace needs it any more.
func (r *NamespaceReconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	namespace := &metav1.PartialObjectMetadata{}
	namespace.SetGroupVersionKind(NamespaceKind()) // the caches of a blind manager show each namespace as one that stays
	if err := r.Get(ctx, types.NamespacedName{Name: request.Name}, namespace); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	again := leavingRecheck
	if namespace.DeletionTimestamp.IsZero() {
		again = stayingRecheck
	}
	if used, err := isInUse(ctx, r, request.Name); err != nil || used {
		return lookAgain(again, err)
	}
	binding, err := r.binding(ctx, request.Name)
	if err != nil || binding == nil || namespace.DeletionTimestamp.IsZero() && binding.DeletionTimestamp.IsZero() {
		return lookAgain(stayingRecheck, err)
	}
	// Without the RoleBinding, what the cache does not show yet would wait for ever.
	if used, err := isInUse(ctx, r.Live, request.Name, client.MatchingFields{"type": credsecret.Type}); err != nil || used {
		return lookAgain(leavingRecheck, err)
	}
	return lookAgain(stayingRecheck, r.letGo(ctx, binding))
}

// lookAgain comes back after a while, or, after an error, when the queue says.
func lookAgain(after time.Duration, err error) (ctrl.Result, error) {
	if err != nil {
		return ctrl.Result{}, err
	}
	return ctrl.Result{RequeueAfter: after}, nil
}

// binding reads the RoleBinding; nil if there is none that waits for us. Where it is gone, so is the right to read it.
func (r *NamespaceReconciler) binding(ctx context.Context, namespace string) (*rbacv1.RoleBinding, error) {
	binding := &rbacv1.RoleBinding{}
	err := r.Live.Get(ctx, types.NamespacedName{Namespace: namespace, Name: RoleBindingName}, binding)
	switch {
	case apierrors.IsForbidden(err), apierrors.IsNotFound(err):
		return nil, nil //nolint:nilnil // that there is none is an answer
	case err != nil:
		return nil, fmt.Errorf("reading RoleBinding %s in namespace %s: %w", RoleBindingName, namespace, err)
	case !controllerutil.ContainsFinalizer(binding, v1alpha1.GrantFinalizer):
		return nil, nil //nolint:nilnil // that there is none is an answer
	}
	return binding, nil
}

// isInUse reports whether something in the namespace waits for the manager, or may yet come to. A reader that knows other
// Secrets than ours needs to be told which ones to list.
func isInUse(ctx context.Context, reader client.Reader, namespace string, secretsOfOurs ...client.ListOption) (bool, error) {
	secrets := &metav1.PartialObjectMetadataList{}
	secrets.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("SecretList"))
	for _, kind := range []struct {
		list    client.ObjectList
		options []client.ListOption
		uses    func(metav1.Object) bool
	}{
		{list: &v1alpha1.MqttTokenGrantList{}, uses: needsManager},
		{list: &v1alpha1.MqttInstanceList{}, uses: needsManager},
		{list: secrets, options: secretsOfOurs, uses: waitsForManager},
	} {
		options := slices.Concat(kind.options, []client.ListOption{client.InNamespace(namespace), client.UnsafeDisableDeepCopy})
		if err := reader.List(ctx, kind.list, options...); err != nil {
			return false, fmt.Errorf("looking for what is left in namespace %s: %w", namespace, err)
		}
		used := false
		err := apimeta.EachListItem(kind.list, func(item runtime.Object) error {
			object, err := apimeta.Accessor(item)
			used = used || err == nil && kind.uses(object)
			return err
		})
		if err != nil || used {
			return used, err
		}
	}
	return false, nil
}

// needsManager is true of what is served and of what waits. What is being deleted and does not wait, nothing can make wait
// any more.
func needsManager(object metav1.Object) bool {
	return object.GetDeletionTimestamp().IsZero() || waitsForManager(object)
}

func waitsForManager(object metav1.Object) bool {
	return slices.ContainsFunc(object.GetFinalizers(), func(finalizer string) bool {
		return strings.HasPrefix(finalizer, v1alpha1.GroupName+"/")
	})
}

// letGo takes the finalizer off. The API server lets those do that who may patch the RoleBinding, whatever it grants.
func (r *NamespaceReconciler) letGo(ctx context.Context, binding *rbacv1.RoleBinding) error {
	before := binding.DeepCopy()
	controllerutil.RemoveFinalizer(binding, v1alpha1.GrantFinalizer)
	err := r.Patch(ctx, binding, onlyIfUnchanged(before))
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("releasing RoleBinding %s in namespace %s: %w", binding.Name, binding.Namespace, err)
	}
	return nil
}

// SetupWithManager registers the controller for its namespaces.
func (r *NamespaceReconciler) SetupWithManager(mgr ctrl.Manager) error {
	ours := predicate.NewPredicateFuncs(func(namespace client.Object) bool { return slices.Contains(r.Namespaces, namespace.GetName()) })
	begins := predicate.Funcs{
		UpdateFunc: func(e event.UpdateEvent) bool {
			return e.ObjectOld.GetDeletionTimestamp().IsZero() && !e.ObjectNew.GetDeletionTimestamp().IsZero()
		},
		DeleteFunc: func(event.DeleteEvent) bool { return false },
	}
	if r.Blind {
		return ctrl.NewControllerManagedBy(mgr).Named("namespace").WatchesRawSource(r.all()).Complete(r)
	}
	return ctrl.NewControllerManagedBy(mgr).Named("namespace").
		For(&corev1.Namespace{}, builder.OnlyMetadata, builder.WithPredicates(ours, begins)).
		Complete(r)
}

// all has each namespace looked at once; from then on it comes back by itself.
func (r *NamespaceReconciler) all() source.Source {
	return source.Func(func(_ context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
		for _, name := range r.Namespaces {
			queue.Add(reconcile.Request{NamespacedName: types.NamespacedName{Name: name}})
		}
		return nil
	})
}
