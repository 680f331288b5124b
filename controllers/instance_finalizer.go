package controllers

import (
	"context"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
)

// inUseRecheck is how often an instance in deletion looks whether anybody still revokes over it.
const inUseRecheck = time.Second

// finalize keeps an instance in deletion while grants or the ledger revoke over it, but not longer than a deletion may
// take. The link stays in memory after that.
func (r *InstanceReconciler) finalize(ctx context.Context, instance *v1alpha1.MqttInstance, now time.Time) (gone bool, err error) {
	key, has := client.ObjectKeyFromObject(instance), controllerutil.ContainsFinalizer(instance, v1alpha1.InstanceFinalizer)
	if instance.DeletionTimestamp.IsZero() {
		delete(r.closing, key) // whoever was deleted under this name is gone
		if has {
			return false, nil
		}
		return false, r.patchFinalizer(ctx, instance, controllerutil.AddFinalizer)
	}
	if !has {
		return true, nil
	}
	sum, err := r.census(ctx, instance, now)
	if err != nil {
		return false, err
	}
	pending := r.Ledger.pendingOf(key)
	if now.Before(r.closesAt(key, now)) && (sum.leaning > 0 || pending > 0) {
		return false, nil
	}
	if err := client.IgnoreNotFound(r.patchFinalizer(ctx, instance, controllerutil.RemoveFinalizer)); err != nil {
		return false, err
	}
	if pending == 0 {
		r.Connections.accounts.Leave(key.String(), now)
	}
	return true, nil
}

// outlive keeps the link of an instance that is gone in order as long as the ledger revokes over it: after an outage, only
// a check puts it into use again.
func (r *InstanceReconciler) outlive(ctx context.Context, key types.NamespacedName) ctrl.Result {
	now := r.Clock.Now()
	if r.Ledger.pendingOf(key) == 0 {
		r.Connections.accounts.Leave(key.String(), now)
		return ctrl.Result{}
	}
	_, next := r.tend(ctx, key, key.String(), now)
	return comeBackAt(next, now)
}

// closesAt is when an instance in deletion goes, needed or not. It counts from when this process first saw the deletion: a
// manager that has just started has no link yet, and grants get their chance to revoke over it however long ago the
// deletion was. Nor do the clocks of API server and manager have to agree.
func (r *InstanceReconciler) closesAt(key types.NamespacedName, now time.Time) time.Time {
	if _, found := r.closing[key]; !found {
		r.closing[key] = now
	}
	return r.closing[key].Add(r.RevocationDeadline)
}

func (r *InstanceReconciler) patchFinalizer(ctx context.Context, instance *v1alpha1.MqttInstance, change func(client.Object, string) bool) error {
	before := instance.DeepCopy()
	change(instance, v1alpha1.InstanceFinalizer)
	if err := r.Patch(ctx, instance, onlyIfUnchanged(before)); err != nil {
		return fmt.Errorf("writing the finalizer: %w", err)
	}
	r.written[client.ObjectKeyFromObject(instance)] = instance.ResourceVersion
	return nil
}
