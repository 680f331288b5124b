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
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/desired"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/killpoint"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/ledger"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/plan"
)

// conflictRecheck is how often a Secret that is not ours is looked at again: it may be of a type that no watch covers.
const conflictRecheck = time.Minute

// report writes the status if it changed, tells of what changed, and says when to come back.
func (r *GrantReconciler) report(ctx context.Context, seen observation, out outcome) (ctrl.Result, error) {
	if out.released {
		r.recent.forget(client.ObjectKeyFromObject(seen.grant))
		r.Ledger.index.forgetRevoked(ledger.Name(string(seen.grant.UID)))
		r.tell(seen, out.event)
		return ctrl.Result{}, nil
	}
	if out.err != nil || out.wait > 0 || out.quiet {
		r.tell(seen, out.event)
		if out.err != nil {
			return ctrl.Result{}, out.err
		}
		return ctrl.Result{RequeueAfter: r.untilOverdue(seen, out.wait)}, nil
	}
	out.doomed = r.isDoomed(string(seen.grant.UID), out.secret.held())
	shown := seen.worded(out)
	status := seen.status(out, shown)
	status.PendingRevocations = int32(r.Ledger.pending(seen.grant.UID)) //nolint:gosec // at most ledger.MaxEntries
	if err := r.writeStatus(ctx, seen.grant, status); err != nil {
		return ctrl.Result{}, err
	}
	if out.problem != nil && out.problem.cause != nil {
		log.FromContext(ctx).Error(out.problem.cause, "Attempt failed", "reason", out.problem.reason, "attempts", status.FailedAttempts)
	}
	r.tell(seen, out.event)
	if shown != nil && !shown.silent && isNew(seen.grant.Status, *shown) {
		r.tell(seen, problemEvent(*shown))
	}
	return r.comeBack(seen, out, status), nil
}

// tell tells of a grant where that can be read: a namespace that is being deleted takes no events.
func (r *GrantReconciler) tell(seen observation, t *transition) {
	if !seen.terminating {
		tell(r.Events, seen.grant, t)
	}
}

func (r *GrantReconciler) writeStatus(ctx context.Context, grant *v1alpha1.MqttTokenGrant, status v1alpha1.MqttTokenGrantStatus) error {
	if equality.Semantic.DeepEqual(grant.Status, status) {
		return nil
	}
	changed := grant.DeepCopy()
	changed.Status = status
	if err := r.Status().Patch(ctx, changed, onlyIfUnchanged(grant)); err != nil {
		return fmt.Errorf("writing the status: %w", err)
	}
	killpoint.Reached(killpoint.AfterStatus)
	r.rememberWrite(changed)
	return nil
}

// isNew reports whether the problem was not there in the last status.
func isNew(before v1alpha1.MqttTokenGrantStatus, p problem) bool {
	for _, c := range before.Conditions {
		if c.Reason == p.reason && c.Message == p.message {
			return false
		}
	}
	return true
}

// comeBack is the earliest moment at which something is due: the decision's, the next attempt, the guard's, or the end of
// a token.
func (r *GrantReconciler) comeBack(seen observation, out outcome, status v1alpha1.MqttTokenGrantStatus) ctrl.Result {
	now := seen.input.Now
	moments := []time.Time{out.decision.Next}
	if status.NextAttemptTime != nil {
		moments = append(moments, status.NextAttemptTime.Time)
	}
	if seen.guard.wait > 0 {
		moments = append(moments, now.Add(seen.guard.wait))
	}
	if seen.tokensMatch(out.secret) {
		moments = append(moments, out.secret.held().Expires())
	}
	if out.decision.Reason == plan.ReasonForeign {
		moments = append(moments, now.Add(conflictRecheck))
	}
	var first time.Time
	for _, m := range moments {
		if !m.IsZero() && (first.IsZero() || m.Before(first)) {
			first = m
		}
	}
	wait := time.Duration(0)
	if !first.IsZero() {
		wait = pause(first, now)
	}
	return ctrl.Result{RequeueAfter: r.untilOverdue(seen, wait)}
}

// status is what the grant's status says after the outcome. It depends on nothing else, so the same outcome gives the
// same status, byte for byte.
func (seen observation) status(out outcome, shown *problem) v1alpha1.MqttTokenGrantStatus {
	grant := seen.grant
	status := v1alpha1.MqttTokenGrantStatus{
		ObservedGeneration: new(grant.Generation),
		SecretName:         desired.SecretName(grant),
	}
	seen.holdClientID(&status, out)
	seen.describeTokens(&status, out.secret)
	seen.countAttempts(&status, out)
	status.Conditions = seen.conditions(out, shown)
	return status
}

func (seen observation) describeTokens(status *v1alpha1.MqttTokenGrantStatus, secret secretView) {
	if secret.state != plan.SecretOurs || secret.damaged {
		return
	}
	held := secret.held()
	for _, t := range secret.facts.Tokens {
		status.Tokens = append(status.Tokens, v1alpha1.TokenStatus{
			Type: string(t.Type), TopicCount: int32(t.TopicCount), //nolint:gosec // at most 100
			IssuedTime: moment(t.Issued), ExpirationTime: moment(t.Expires), Fingerprint: t.Fingerprint,
		})
	}
	status.ExpirationTime, status.RenewalTime = moment(held.Expires()), moment(seen.renewAt(secret))
	status.Revision = secret.facts.Revision
	if len(secret.facts.Tokens) > 0 && isKeyID(secret.facts.KeyID) {
		status.AccessKeyID = secret.facts.KeyID
	}
}

// countAttempts notes a failed attempt and when the next one is due. A wait between attempts, or for the instance, keeps
// the notes; anything else ends them.
func (seen observation) countAttempts(status *v1alpha1.MqttTokenGrantStatus, out outcome) {
	before := seen.grant.Status
	switch {
	case out.decision.Reason == plan.ReasonBackoff && before.LastFailure.Reason != "":
		status.LastFailure, status.FailedAttempts, status.NextAttemptTime = before.LastFailure, before.FailedAttempts, before.NextAttemptTime
	case out.problem != nil && out.problem.reason == v1alpha1.ReasonInstanceNotReady: // whose recovery ends the wait
		status.LastFailure, status.FailedAttempts = before.LastFailure, before.FailedAttempts
	case out.problem != nil && out.problem.attempt:
		now := seen.input.Now
		status.FailedAttempts = before.FailedAttempts + 1
		status.LastFailure = v1alpha1.Failure{Reason: out.problem.reason, Message: out.problem.message, Time: moment(now)}
		status.NextAttemptTime = moment(now.Add(plan.Backoff(int(status.FailedAttempts), seen.input.Seed)))
	}
}

// conditions says how things stand. While only the instance is at fault and the tokens are good, the grant's own
// conditions stay as they were: the instance tells it once instead of each of its grants.
func (seen observation) conditions(out outcome, shown *problem) []metav1.Condition {
	set := conditionSet{
		list: append([]metav1.Condition{}, seen.grant.Status.Conditions...), generation: seen.grant.Generation, now: seen.input.Now,
	}
	ready := seen.tokensMatch(out.secret) && !seen.input.Deleting && !seen.input.OnHold && !out.doomed
	if !seen.input.Deleting {
		seen.setAuthorized(&set)
		seen.setRenewed(&set, out, ready)
		set.warn(v1alpha1.HeldCondition, seen.holdProblem())
		set.warn(v1alpha1.ShortValidityCondition, seen.shortValidityProblem())
		set.warn(v1alpha1.RolloutRestartsOffCondition, seen.rolloutsOffProblem())
	}
	set.summarize(ready, v1alpha1.ReasonIssued, "The Secret holds valid tokens for everything the grant asks for.", shown)
	return set.list
}

func (seen observation) setAuthorized(set *conditionSet) {
	switch {
	case seen.specErr != nil || seen.instance == nil || seen.isStranger():
		set.set(v1alpha1.AuthorizedCondition, metav1.ConditionUnknown, v1alpha1.ReasonProgressing, "Nothing to judge by: the spec cannot be understood, or the instance is missing or does not serve this namespace.")
	case len(seen.violations) > 0 || seen.rival != nil:
		p := seen.deniedProblem()
		set.set(v1alpha1.AuthorizedCondition, metav1.ConditionFalse, p.reason, p.message)
	default:
		set.set(v1alpha1.AuthorizedCondition, metav1.ConditionTrue, v1alpha1.ReasonAllowed, "The instance's access rules allow everything the grant asks for.")
	}
}

// renewAt is when a renewal is due. That it is tried earlier while the service is flaky is nothing to report: it would
// rewrite every grant after each outage.
func (seen observation) renewAt(secret secretView) time.Time {
	in := seen.input
	in.Held, in.Flaky = secret.held(), false
	return in.RenewAt()
}

// setRenewed speaks of tokens that exist: is a renewal overdue?
func (seen observation) setRenewed(set *conditionSet, out outcome, ready bool) {
	if out.secret.state != plan.SecretOurs || len(out.secret.facts.Tokens) == 0 {
		set.remove(v1alpha1.RenewedCondition)
		return
	}
	overdue := !seen.renewAt(out.secret).After(seen.input.Now)
	waitsForInstance := out.problem != nil && out.problem.reason == v1alpha1.ReasonInstanceNotReady
	switch {
	case ready && overdue && waitsForInstance && apimeta.FindStatusCondition(set.list, v1alpha1.RenewedCondition) != nil:
	case overdue && out.problem != nil:
		set.set(v1alpha1.RenewedCondition, metav1.ConditionFalse, out.problem.reason, out.problem.message)
	default:
		set.set(v1alpha1.RenewedCondition, metav1.ConditionTrue, v1alpha1.ReasonIssued, "No renewal is overdue.")
	}
}

// moment is a time as status holds it: whole seconds; nil for none.
func moment(t time.Time) *metav1.Time {
	if t.IsZero() {
		return nil
	}
	return new(metav1.NewTime(t.UTC().Truncate(time.Second)))
}
