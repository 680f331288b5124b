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
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

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
}

// RoleBindingName is the name of the RoleBinding that lets the manager into a namespace.
const RoleBindingName = "mqtt-token-operator-manager"

const (
	// bindingRecheck is how often a RoleBinding is looked at: so long somebody may wait who withdraws it from a namespace
	// that stays.
	bindingRecheck = time.Minute
	// emptyRecheck is how often a namespace is looked at that the manager is to leave: in its own memory.
	emptyRecheck = time.Second
)

// Reconcile lets the RoleBinding go, if it is to go, when nothing in the namespace needs it any more.
func (r *NamespaceReconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	namespace := &metav1.PartialObjectMetadata{}
	namespace.SetGroupVersionKind(NamespaceKind())
	if err := r.Get(ctx, types.NamespacedName{Name: request.Name}, namespace); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	stays := namespace.DeletionTimestamp.IsZero()
	used, err := isInUse(ctx, r, request.Name)
	if err != nil {
		return ctrl.Result{}, err
	}
	if used && !stays {
		return ctrl.Result{RequeueAfter: emptyRecheck}, nil
	}
	binding, err := r.binding(ctx, request.Name)
	switch {
	case err != nil:
		return ctrl.Result{}, err
	case binding == nil, stays && binding.DeletionTimestamp.IsZero():
		return ctrl.Result{RequeueAfter: bindingRecheck}, nil
	case used:
		return ctrl.Result{RequeueAfter: emptyRecheck}, nil
	}
	return r.letGoIfUnused(ctx, binding)
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

// letGoIfUnused takes the finalizer off the RoleBinding unless the API server knows of something that the cache does not
// show yet, and that would wait for ever without it. The API server lets those take it off who may patch the
// RoleBinding, whatever that grants.
func (r *NamespaceReconciler) letGoIfUnused(ctx context.Context, binding *rbacv1.RoleBinding) (ctrl.Result, error) {
	used, err := isInUse(ctx, r.Live, binding.Namespace, client.MatchingFields{"type": credsecret.Type})
	if err != nil {
		return ctrl.Result{}, err
	}
	if used {
		return ctrl.Result{RequeueAfter: emptyRecheck}, nil
	}
	before := binding.DeepCopy()
	controllerutil.RemoveFinalizer(binding, v1alpha1.GrantFinalizer)
	err = r.Patch(ctx, binding, onlyIfUnchanged(before))
	if client.IgnoreNotFound(err) != nil {
		return ctrl.Result{}, fmt.Errorf("releasing RoleBinding %s in namespace %s: %w", binding.Name, binding.Namespace, err)
	}
	return ctrl.Result{RequeueAfter: bindingRecheck}, nil
}

// isInUse reports whether something in the namespace waits for the manager, or may yet come to. A reader that knows other
// Secrets than ours needs to be told which ones to list.
func isInUse(ctx context.Context, reader client.Reader, namespace string, secretsOfOurs ...client.ListOption) (bool, error) {
	secrets := &metav1.PartialObjectMetadataList{}
	secrets.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("SecretList"))
	for _, kind := range []struct {
		list    client.ObjectList
		options []client.ListOption
	}{{list: &v1alpha1.MqttTokenGrantList{}}, {list: &v1alpha1.MqttInstanceList{}}, {secrets, secretsOfOurs}} {
		if err := reader.List(ctx, kind.list, append(kind.options, client.InNamespace(namespace))...); err != nil {
			return false, fmt.Errorf("looking for what is left in namespace %s: %w", namespace, err)
		}
		used := false
		err := apimeta.EachListItem(kind.list, func(item runtime.Object) error {
			object, err := apimeta.Accessor(item)
			used = used || err == nil && waitsForUs(object)
			return err
		})
		if err != nil || used {
			return used, err
		}
	}
	return false, nil
}

// waitsForUs tells what the manager must let go, or could still put a finalizer on, from what goes without it.
func waitsForUs(object metav1.Object) bool {
	return object.GetDeletionTimestamp().IsZero() || slices.ContainsFunc(object.GetFinalizers(), func(finalizer string) bool {
		return strings.HasPrefix(finalizer, v1alpha1.GroupName+"/")
	})
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
	return ctrl.NewControllerManagedBy(mgr).Named("namespace").
		For(&corev1.Namespace{}, builder.OnlyMetadata, builder.WithPredicates(ours, begins)).
		Complete(r)
}
