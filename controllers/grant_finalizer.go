package controllers

import (
	"context"
	"fmt"

	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
)

func (r *GrantReconciler) ensureFinalizer(ctx context.Context, grant *v1alpha1.MqttTokenGrant) error {
	if controllerutil.ContainsFinalizer(grant, v1alpha1.GrantFinalizer) {
		return nil
	}
	return r.patchFinalizer(ctx, grant, controllerutil.AddFinalizer)
}

func (r *GrantReconciler) patchFinalizer(ctx context.Context, grant *v1alpha1.MqttTokenGrant, change func(client.Object, string) bool) error {
	before := grant.DeepCopy()
	change(grant, v1alpha1.GrantFinalizer)
	if err := r.Patch(ctx, grant, onlyIfUnchanged(before)); err != nil {
		return fmt.Errorf("writing the finalizer: %w", err)
	}
	r.rememberWrite(grant)
	return nil
}

// onlyIfUnchanged is a merge patch that fails if the object is not the one that was read: lists such as finalizers and
// conditions are replaced whole, so a patch made from an old copy would undo what others did.
func onlyIfUnchanged(before client.Object) client.Patch {
	return client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
}

func (r *GrantReconciler) rememberWrite(grant *v1alpha1.MqttTokenGrant) {
	r.recent.note(grant, func(g *recentGrant) { g.grantVersion = grant.ResourceVersion })
}
