package controllers

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
)

// NamespaceReconciler is for a manager that is bound to some namespaces by a RoleBinding in each. A namespace in deletion
// would take that RoleBinding along, and with it the right to revoke and to let go of what is in there. So the
// RoleBinding carries a finalizer, and goes last.
type NamespaceReconciler struct {
	client.Client
	// Live reads from the API server, past all caches: no cache of this process holds RoleBindings.
	Live client.Reader
	// Watched are the namespaces that the manager is bound to.
	Watched []string
}

// RoleBindingName is the RoleBinding that binds the manager in a namespace.
const RoleBindingName = "mqtt-token-operator-manager"

// emptyRecheck is how often a namespace in deletion is looked at: what leaves it is not worth a watch of its own.
const emptyRecheck = time.Second

// Reconcile lets the RoleBinding go when nothing in the namespace needs it any more.
func (r *NamespaceReconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	namespace := &metav1.PartialObjectMetadata{}
	namespace.SetGroupVersionKind(NamespaceKind())
	if err := r.Get(ctx, types.NamespacedName{Name: request.Name}, namespace); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if namespace.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, nil
	}
	empty, err := r.isEmpty(ctx, request.Name)
	if err != nil {
		return ctrl.Result{}, err
	}
	if !empty {
		return ctrl.Result{RequeueAfter: emptyRecheck}, nil
	}
	return ctrl.Result{}, r.letGo(ctx, types.NamespacedName{Namespace: request.Name, Name: RoleBindingName})
}

// isEmpty reports whether no object in the namespace carries one of our finalizers.
func (r *NamespaceReconciler) isEmpty(ctx context.Context, namespace string) (bool, error) {
	var grants v1alpha1.MqttTokenGrantList
	var instances v1alpha1.MqttInstanceList
	secrets := &metav1.PartialObjectMetadataList{}
	secrets.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("SecretList"))
	for _, list := range []client.ObjectList{&grants, &instances, secrets} {
		if err := r.List(ctx, list, client.InNamespace(namespace)); err != nil {
			return false, fmt.Errorf("looking for what is left in namespace %s: %w", namespace, err)
		}
	}
	return len(grants.Items) == 0 && len(instances.Items) == 0 && !slices.ContainsFunc(secrets.Items, func(s metav1.PartialObjectMetadata) bool {
		return controllerutil.ContainsFinalizer(&s, v1alpha1.GrantFinalizer)
	}), nil
}

func (r *NamespaceReconciler) letGo(ctx context.Context, name types.NamespacedName) error {
	binding := &rbacv1.RoleBinding{}
	if err := r.Live.Get(ctx, name, binding); err != nil {
		return client.IgnoreNotFound(err)
	}
	before := binding.DeepCopy()
	if !controllerutil.RemoveFinalizer(binding, v1alpha1.GrantFinalizer) {
		return nil
	}
	if err := r.Patch(ctx, binding, onlyIfUnchanged(before)); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("releasing RoleBinding %s: %w", name, err)
	}
	return nil
}

// SetupWithManager registers the controller for the namespaces that are watched.
func (r *NamespaceReconciler) SetupWithManager(mgr ctrl.Manager) error {
	watched := predicate.NewPredicateFuncs(func(namespace client.Object) bool { return slices.Contains(r.Watched, namespace.GetName()) })
	going := predicate.Funcs{
		CreateFunc: func(e event.CreateEvent) bool { return !e.Object.GetDeletionTimestamp().IsZero() },
		UpdateFunc: func(e event.UpdateEvent) bool { return !e.ObjectNew.GetDeletionTimestamp().IsZero() },
		DeleteFunc: func(event.DeleteEvent) bool { return false },
	}
	return ctrl.NewControllerManagedBy(mgr).
		Named("namespace").
		For(&corev1.Namespace{}, builder.OnlyMetadata, builder.WithPredicates(watched, going)).
		Complete(r)
}
