package controllers

import (
	"context"
	"fmt"
	"slices"
	"time"

	"golang.org/x/time/rate"
	"k8s.io/apimachinery/pkg/api/equality"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
)

// finding is what a pass over an instance found.
type finding struct {
	link    *link    // nil: none could be made
	problem *problem // nil: the connection works
	mass    *problem // nil: no mass revocation is held back
	truth   *problem // nil: what the service says of tokens is credible
	retryAt time.Time
	census  census
	pending int
	broker  *verdictOnBroker // nil: nobody asks the broker
	probeAt time.Time        // when somebody does next; zero: not by itself
	skew    time.Duration
}

// report writes the status if it changed, tells of what changed, and says when to look again.
func (r *InstanceReconciler) report(ctx context.Context, instance *v1alpha1.MqttInstance, found finding, now time.Time) (ctrl.Result, error) {
	key := client.ObjectKeyFromObject(instance)
	var err error
	if found.mass, err = r.massProblem(ctx, instance, now); err != nil {
		return ctrl.Result{}, err
	}
	found.truth = r.truthProblem(instance, now)
	found.pending, found.skew = r.Ledger.pendingOf(key), r.Connections.offset(key)
	if !instance.DeletionTimestamp.IsZero() {
		found.problem = closingProblem()
	}
	r.Skew.SetServiceClockSkew(found.skew)
	status := instanceStatus(instance, found, now)
	if !equality.Semantic.DeepEqual(instance.Status, status) {
		if wait := r.mayWrite(key, now); wait > 0 {
			return ctrl.Result{RequeueAfter: wait}, nil
		}
		changed := instance.DeepCopy()
		changed.Status = status
		if err := r.Status().Patch(ctx, changed, onlyIfUnchanged(instance)); err != nil {
			return ctrl.Result{}, fmt.Errorf("writing the status: %w", err)
		}
		r.written[key] = changed.ResourceVersion
		r.tellChanges(ctx, instance, found, status)
	}
	return comeBackToInstance(instance, found, now), nil
}

// tellChanges tells of what is new since the last status.
func (r *InstanceReconciler) tellChanges(ctx context.Context, instance *v1alpha1.MqttInstance, found finding, status v1alpha1.MqttInstanceStatus) {
	before := instance.Status.Conditions
	news := found.change(before, status.Conditions)
	tell(r.Events, instance, news)
	if news != nil && found.problem != nil && found.problem.cause != nil {
		log.FromContext(ctx).Error(found.problem.cause, "The instance cannot be used", "reason", found.problem.reason)
	}
	for _, p := range []*problem{found.mass, found.truth, found.broker.problem()} {
		if p != nil && !hasReason(before, p.reason) {
			tell(r.Events, instance, problemEvent(*p))
		}
	}
}

// comeBackToInstance is when something is due by itself: a check, a count during an outage, the end of a deletion.
func comeBackToInstance(instance *v1alpha1.MqttInstance, found finding, now time.Time) ctrl.Result {
	switch {
	case !instance.DeletionTimestamp.IsZero():
		return ctrl.Result{RequeueAfter: inUseRecheck}
	case found.mass != nil:
		return ctrl.Result{RequeueAfter: countDelay}
	}
	wait := recount
	for _, at := range []time.Time{found.retryAt, found.probeAt} {
		if !at.IsZero() {
			wait = min(wait, pause(at, now))
		}
	}
	return ctrl.Result{RequeueAfter: wait}
}

// mayWrite is how long a write of an instance's status has to wait; zero: not at all. A few may follow each other at
// once, so that a change is seen when it happens; on average there is one in countDelay, whatever flaps.
func (r *InstanceReconciler) mayWrite(key types.NamespacedName, now time.Time) time.Duration {
	limit, found := r.writes[key]
	if !found {
		limit = rate.NewLimiter(rate.Every(countDelay), writesAtOnce)
		r.writes[key] = limit
	}
	place := limit.ReserveN(now, 1)
	wait := place.DelayFrom(now)
	if wait > 0 {
		place.CancelAt(now)
	}
	return wait
}

const writesAtOnce = 5

func closingProblem() *problem {
	return &problem{
		reason: v1alpha1.ReasonDeleting, silent: true,
		message: "The instance is being deleted. It issues nothing more, and waits for revocations over it.",
	}
}

func instanceStatus(instance *v1alpha1.MqttInstance, found finding, now time.Time) v1alpha1.MqttInstanceStatus {
	set := conditionSet{list: append([]metav1.Condition{}, instance.Status.Conditions...), generation: instance.Generation, now: now}
	set.summarize(found.problem == nil, v1alpha1.ReasonConnected, "The service takes the instance's credential.", found.problem)
	set.warn(v1alpha1.MassRevocationHeldCondition, found.mass)
	set.warn(v1alpha1.TokensInvalidCondition, found.truth)
	found.broker.show(&set)
	status := v1alpha1.MqttInstanceStatus{
		Conditions: set.list, ObservedGeneration: new(instance.Generation),
		AccessKeyID: instance.Status.AccessKeyID, AccountID: instance.Status.AccountID,
		PendingRevocations: *count(found.pending),
	}
	if found.skew != 0 {
		status.ClockSkewSeconds = count(int(found.skew.Seconds()))
	}
	found.census.describe(&status)
	if found.link != nil {
		status.AccessKeyID, status.AccountID = found.link.keyID, found.link.account
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

func hasReason(conditions []metav1.Condition, reason string) bool {
	return slices.ContainsFunc(conditions, func(c metav1.Condition) bool { return c.Reason == reason })
}

func isReady(conditions []metav1.Condition) bool {
	return apimeta.IsStatusConditionTrue(conditions, v1alpha1.ReadyCondition)
}
