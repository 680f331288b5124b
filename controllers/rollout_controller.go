package controllers

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/ledger"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/rollout"
)

// RolloutReconciler restarts workloads that cannot reload when the tokens of their grant change. A grant without targets
// costs it nothing; workloads are read one by one, when there is something to do.
type RolloutReconciler struct {
	client.Client
	Live     client.Reader
	Clock    clock.PassiveClock
	Events   events.EventRecorder
	Rollouts *Rollouts
	Ledger   *Ledger
}

// Reconcile makes one pass over a grant's targets.
func (r *RolloutReconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	grant := &v1alpha1.MqttTokenGrant{}
	if err := r.Get(ctx, request.NamespacedName, grant); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	issued := newestIssue(grant.Status.Tokens)
	if !grant.DeletionTimestamp.IsZero() || len(grant.Spec.RolloutRestartTargets) == 0 || issued.IsZero() {
		r.Rollouts.forget(grant.UID)
		return ctrl.Result{}, nil
	}
	now, done, next := r.Clock.Now(), true, time.Time{}
	for _, target := range grant.Spec.RolloutRestartTargets {
		verdict, err := r.tend(ctx, grant, target, issued, now)
		if err != nil {
			return ctrl.Result{}, err
		}
		done, next = done && verdict.Done, earlier(next, verdict.Next)
	}
	if done && r.Rollouts.note(grant.UID, issued) {
		r.Ledger.wakePage(ledger.Name(string(grant.UID)))
	}
	return comeBackAt(next, now), nil
}

// newestIssue is when the newest of a grant's tokens was issued; zero: there is none.
func newestIssue(tokens []v1alpha1.TokenStatus) time.Time {
	var newest time.Time
	for _, t := range tokens {
		if t.IssuedTime != nil && t.IssuedTime.After(newest) {
			newest = t.IssuedTime.Time
		}
	}
	return newest
}

// tend restarts a target if that is due, and tells of what keeps it from that.
func (r *RolloutReconciler) tend(ctx context.Context, grant *v1alpha1.MqttTokenGrant, target v1alpha1.RolloutTarget, issued, now time.Time) (rollout.Verdict, error) {
	w, err := r.read(ctx, grant, target)
	if err != nil && !apierrors.IsForbidden(err) {
		return rollout.Verdict{}, fmt.Errorf("reading %s %s: %w", target.Kind, target.Name, err)
	}
	verdict := rollout.Decide(w.target(grant), issued, grant.Status.Revision <= 1, now)
	if err == nil && verdict.Restart {
		err = r.restart(ctx, w, issued, now)
		if apierrors.IsConflict(err) { // it changed meanwhile; look again
			return rollout.Verdict{Next: now.Add(time.Second)}, nil
		}
		if err == nil {
			tell(r.Events, grant, restartedEvent(grant.Namespace, target))
		}
	}
	switch {
	case apierrors.IsForbidden(err) || apierrors.IsInvalid(err):
		verdict = rollout.Verdict{Done: true, Problem: rollout.Forbidden}
	case err != nil:
		return rollout.Verdict{}, fmt.Errorf("restarting %s %s: %w", target.Kind, target.Name, err)
	}
	if r.Rollouts.isNews(grant.UID, target, verdict.Problem) {
		tell(r.Events, grant, notRestartedEvent(grant.Namespace, target, verdict.Problem))
	}
	return verdict, nil
}

// workload is a target as the API server has it; without an object it is missing.
type workload struct {
	object   client.Object
	template *corev1.PodTemplateSpec
	finished bool
	rolls    bool
}

// read reads a target live: nobody watches workloads for this.
func (r *RolloutReconciler) read(ctx context.Context, grant *v1alpha1.MqttTokenGrant, target v1alpha1.RolloutTarget) (workload, error) {
	key := types.NamespacedName{Namespace: grant.Namespace, Name: target.Name}
	var w workload
	var err error
	switch target.Kind {
	case v1alpha1.WorkloadDeployment:
		d := &appsv1.Deployment{}
		err = r.Live.Get(ctx, key, d)
		w = workload{d, &d.Spec.Template, isDeploymentDone(d), !d.Spec.Paused}
	case v1alpha1.WorkloadStatefulSet:
		s := &appsv1.StatefulSet{}
		err = r.Live.Get(ctx, key, s)
		w = workload{s, &s.Spec.Template, isStatefulSetDone(s), rollsAll(s.Spec.UpdateStrategy)}
	case v1alpha1.WorkloadDaemonSet:
		d := &appsv1.DaemonSet{}
		err = r.Live.Get(ctx, key, d)
		w = workload{d, &d.Spec.Template, isDaemonSetDone(d), d.Spec.UpdateStrategy.Type != appsv1.OnDeleteDaemonSetStrategyType}
	}
	if err != nil {
		return workload{}, client.IgnoreNotFound(err)
	}
	return w, nil
}

// The three that follow judge as `kubectl rollout status` does.

func isDeploymentDone(d *appsv1.Deployment) bool {
	wanted, s := replicas(d.Spec.Replicas), d.Status
	return s.ObservedGeneration >= d.Generation && s.UpdatedReplicas >= wanted && s.Replicas <= s.UpdatedReplicas && s.AvailableReplicas >= wanted
}

func isStatefulSetDone(d *appsv1.StatefulSet) bool {
	wanted, s := replicas(d.Spec.Replicas), d.Status
	return s.ObservedGeneration >= d.Generation && s.UpdateRevision == s.CurrentRevision && s.ReadyReplicas >= wanted
}

func isDaemonSetDone(d *appsv1.DaemonSet) bool {
	s := d.Status
	return s.ObservedGeneration >= d.Generation && s.UpdatedNumberScheduled >= s.DesiredNumberScheduled && s.NumberAvailable >= s.DesiredNumberScheduled
}

// rollsAll reports whether a change of the template replaces all pods of a set.
func rollsAll(s appsv1.StatefulSetUpdateStrategy) bool {
	part := s.RollingUpdate != nil && s.RollingUpdate.Partition != nil && *s.RollingUpdate.Partition > 0
	return s.Type != appsv1.OnDeleteStatefulSetStrategyType && !part
}

func replicas(wanted *int32) int32 {
	if wanted == nil {
		return 1
	}
	return *wanted
}

// target are the facts that a verdict rests on. Times that cannot be read are none.
func (w workload) target(grant *v1alpha1.MqttTokenGrant) rollout.Target {
	if w.object == nil {
		return rollout.Target{}
	}
	allowed := strings.Split(w.object.GetAnnotations()[v1alpha1.AllowRestartAnnotation], ",")
	return rollout.Target{
		Found: true, Allowed: slices.Contains(allowed, "*") || slices.Contains(allowed, grant.Name), Rolls: w.rolls,
		Created: w.object.GetCreationTimestamp().Time,
		For:     timeIn(w.template.Annotations, v1alpha1.RestartedForAnnotation),
		At:      timeIn(w.object.GetAnnotations(), v1alpha1.RestartedAtAnnotation), Finished: w.finished,
	}
}

func timeIn(annotations map[string]string, name string) time.Time {
	at, err := time.Parse(time.RFC3339, annotations[name])
	if err != nil {
		return time.Time{}
	}
	return at
}

// restart changes the pod template, which is what has pods replaced.
func (r *RolloutReconciler) restart(ctx context.Context, w workload, issued, now time.Time) error {
	before, ok := w.object.DeepCopyObject().(client.Object)
	if !ok {
		return fmt.Errorf("%T is no object of the API", w.object)
	}
	metav1.SetMetaDataAnnotation(&w.template.ObjectMeta, v1alpha1.RestartedForAnnotation, issued.UTC().Format(time.RFC3339))
	annotations := w.object.GetAnnotations()
	annotations[v1alpha1.RestartedAtAnnotation] = now.UTC().Format(time.RFC3339) // it has some: one allowed this
	w.object.SetAnnotations(annotations)
	return r.Patch(ctx, w.object, onlyIfUnchanged(before))
}

// SetupWithManager registers the controller.
func (r *RolloutReconciler) SetupWithManager(mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).Named("rollout").
		For(&v1alpha1.MqttTokenGrant{}, builder.WithPredicates(tokensOrTargetsChanged())).
		Complete(r)
}

// tokensOrTargetsChanged lets grants with targets through when there is something to look at.
func tokensOrTargetsChanged() predicate.Predicate {
	hasTargets := func(object client.Object) bool {
		grant, ok := object.(*v1alpha1.MqttTokenGrant)
		return ok && len(grant.Spec.RolloutRestartTargets) > 0
	}
	return predicate.Funcs{
		CreateFunc:  func(e event.CreateEvent) bool { return hasTargets(e.Object) },
		DeleteFunc:  func(event.DeleteEvent) bool { return false },
		GenericFunc: func(event.GenericEvent) bool { return false },
		UpdateFunc: func(e event.UpdateEvent) bool {
			before, ok := e.ObjectOld.(*v1alpha1.MqttTokenGrant)
			after, alsoOK := e.ObjectNew.(*v1alpha1.MqttTokenGrant)
			return ok && alsoOK && (hasTargets(before) || hasTargets(after)) &&
				(before.Generation != after.Generation || !newestIssue(before.Status.Tokens).Equal(newestIssue(after.Status.Tokens)))
		},
	}
}
