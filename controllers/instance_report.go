package controllers

import (
	"context"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
)

// finding is what a pass over an instance found.
type finding struct {
	link    *link    // nil: none could be made
	problem *problem // nil: the connection works
	retryAt time.Time
}

// report writes the status if it changed, tells of what changed, and says when to check again.
func (r *InstanceReconciler) report(ctx context.Context, instance *v1alpha1.MqttInstance, found finding, grants v1alpha1.GrantCounts, now time.Time) (ctrl.Result, error) {
	status := instanceStatus(instance, found, grants, now)
	if !equality.Semantic.DeepEqual(instance.Status, status) {
		changed := instance.DeepCopy()
		changed.Status = status
		if err := r.Status().Patch(ctx, changed, onlyIfUnchanged(instance)); err != nil {
			return ctrl.Result{}, fmt.Errorf("writing the status: %w", err)
		}
		r.written[client.ObjectKeyFromObject(instance)] = changed.ResourceVersion
		tell(r.Events, instance, found.change(instance.Status.Conditions, status.Conditions))
	}
	if found.problem == nil {
		return ctrl.Result{}, nil
	}
	if found.problem.cause != nil {
		log.FromContext(ctx).Error(found.problem.cause, "The instance cannot be used", "reason", found.problem.reason)
	}
	if found.retryAt.IsZero() {
		return ctrl.Result{}, nil
	}
	return ctrl.Result{RequeueAfter: pause(found.retryAt, now)}, nil
}

func instanceStatus(instance *v1alpha1.MqttInstance, found finding, grants v1alpha1.GrantCounts, now time.Time) v1alpha1.MqttInstanceStatus {
	set := conditionSet{list: append([]metav1.Condition{}, instance.Status.Conditions...), generation: instance.Generation, now: now}
	set.summarize(found.problem == nil, v1alpha1.ReasonConnected, "The service takes the instance's credential.", found.problem)
	status := v1alpha1.MqttInstanceStatus{
		Conditions: set.list, ObservedGeneration: new(instance.Generation), Grants: grants, AccessKeyID: instance.Status.AccessKeyID,
	}
	if found.link != nil {
		status.AccessKeyID = found.link.keyID
	}
	return status
}

// change is a problem that is new, or the end of one; nil for neither.
func (f finding) change(before, after []metav1.Condition) *transition {
	old, now := apimeta.FindStatusCondition(before, v1alpha1.ReadyCondition), apimeta.FindStatusCondition(after, v1alpha1.ReadyCondition)
	switch {
	case f.problem != nil && (old == nil || old.Message != now.Message):
		return problemEvent(*f.problem)
	case f.problem == nil && old == nil:
		return connectedEvent()
	case f.problem == nil && old.Status == metav1.ConditionFalse:
		return recoveredEvent()
	}
	return nil
}

func isReady(conditions []metav1.Condition) bool {
	return apimeta.IsStatusConditionTrue(conditions, v1alpha1.ReadyCondition)
}
