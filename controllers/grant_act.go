package controllers

import (
	"context"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/budget"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/credsecret"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/plan"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
)

// outcome is what came of a decision.
type outcome struct {
	decision plan.Decision
	secret   secretView // as it is afterwards
	problem  *problem   // nil: nothing is in the way
	event    *transition
	// wait is how long the call budget wants us to stay away; zero: not at all.
	wait time.Duration
	// quiet says that something is about to happen that will wake the grant; there is nothing to report until then.
	quiet bool
	// doomed says that a token which the Secret offers was revoked, or is about to be.
	doomed bool
	// released says that the finalizer is gone.
	released bool
	// err is a fault of the API server; the queue's own backoff handles it.
	err error
}

// act carries a decision out, as far as it can be.
func (r *GrantReconciler) act(ctx context.Context, seen observation, decision plan.Decision) outcome {
	out := outcome{decision: decision, secret: seen.secret, wait: r.turn(seen, decision)}
	if out.wait > 0 {
		return out
	}
	switch decision.Verb {
	case plan.Apply:
		return r.issue(ctx, seen, out)
	case plan.Rewrite:
		return r.rewrite(ctx, seen, out)
	case plan.Verify:
		return r.verify(ctx, seen, out)
	case plan.Adopt:
		return r.adopt(ctx, seen, out)
	case plan.Withdraw:
		return r.withdraw(ctx, seen, out)
	case plan.Release, plan.HandOver:
		return r.release(ctx, seen, out)
	case plan.Wait:
		out.problem = seen.whyWaiting(decision)
	case plan.Keep:
	}
	return out
}

// turn is how long the call budget keeps the grant waiting; zero: its turn is now. It is asked before the API server is
// read, so that a grant in a long queue costs nothing, and again when what was read gave another decision.
func (r *GrantReconciler) turn(seen observation, decision plan.Decision) time.Duration {
	ask := budget.Ask{ID: string(seen.grant.UID)}
	over := seen.link
	switch decision.Verb {
	case plan.Apply:
		if seen.layout == nil || seen.link == nil {
			return 0
		}
		_, missing := seen.pick(r.recent.of(seen.grant).unsaved)
		ask.Operation, ask.N = budget.Apply, len(missing)
		ask.Lane, ask.Deadline = seen.applyLane(decision.Reason)
	case plan.Verify:
		ask.Operation, ask.Lane, ask.N = budget.Query, budget.QueryVerify, len(seen.input.Held.Tokens)
	case plan.Release:
		over = seen.revoker
		ask.Operation, ask.Lane, ask.N = budget.Revoke, budget.RevokeDeleted, min(len(decision.Revoke), 1)
		ask.Deadline = seen.grant.DeletionTimestamp.Add(r.RevocationDeadline)
	case plan.Keep, plan.Wait, plan.Rewrite, plan.Adopt, plan.Withdraw, plan.HandOver:
	}
	if over == nil || ask.N == 0 {
		return 0
	}
	return over.budget.Take(ask, r.Clock.Now())
}

// applyLane puts first whoever loses access next: close to expiry, then those who have nothing yet or wait for a change,
// then renewals that have time.
func (seen observation) applyLane(why plan.Reason) (budget.Lane, time.Time) {
	expires := seen.input.Held.Expires()
	switch {
	case !expires.IsZero() && expires.Sub(seen.input.Now) < seen.spec.RenewBefore/2:
		return budget.ApplyExpiring, expires
	case why == plan.ReasonDue || why == plan.ReasonKeyRotated:
		return budget.ApplyRoutine, expires
	}
	return budget.ApplyFirst, time.Time{}
}

// rewrite writes the Secret again with the tokens it holds, less those that must be revoked.
func (r *GrantReconciler) rewrite(ctx context.Context, seen observation, out outcome) outcome {
	if seen.layout == nil {
		out.problem = seen.instanceProblem()
		return out
	}
	if seen.secret.immutable {
		out.problem = seen.immutableProblem()
		return out
	}
	old := seen.divide(seen.retired(), seen.change(out.decision.Reason))
	if !r.enter(ctx, seen, &out, old.entries) {
		return out
	}
	record := credsecret.Record{Tokens: seen.secret.record.Tokens, Retired: old.stay}
	facts := credsecret.Facts{Revision: seen.secret.facts.Revision, Reissue: seen.secret.facts.Reissue}
	out = r.save(ctx, seen, out, record, facts, repairedEvent())
	if out.problem == nil {
		out.problem = seen.whyWaiting(out.decision) // it was written meanwhile
	}
	return out
}

// save renders the record and writes it. What the API server refuses because the Secret is not the one we read goes
// back to the queue at once.
func (r *GrantReconciler) save(ctx context.Context, seen observation, out outcome, record credsecret.Record, facts credsecret.Facts, done *transition) outcome {
	facts.Generation = seen.grant.Generation
	renewAt := plan.RenewAt(record.Issued(), record.Expires(), seen.spec.RenewBefore, seen.input.Seed)
	rendered, err := seen.layout.Render(record, facts, renewAt)
	if err != nil {
		out.problem = templateProblem(err)
		return out
	}
	written, err := r.writeSecret(ctx, seen, rendered)
	switch {
	case apierrors.IsConflict(err):
		out.err = err
	case err != nil:
		out.problem = &problem{
			reason: v1alpha1.ReasonSecretUnwritable, attempt: true, cause: err,
			message: "The API server did not take the Secret: a quota, a policy or missing permissions; the manager's log has its words. Trying again.",
		}
	default:
		out.secret, out.event = written, done
		in := seen.input
		in.Secret, in.Held = plan.SecretOurs, written.held()
		out.decision.Next = nextLook(in)
	}
	return out
}

// nextLook is when the grant must be looked at again once a decision has been carried out, by the same rules as ever.
func nextLook(in plan.Input) time.Time {
	if next := plan.Decide(in).Next; !next.IsZero() {
		return next
	}
	return in.Now
}

// failed is the outcome after a failed call. A manager that lost its lease made none, and has nothing to say.
func (out outcome) failed(seen observation, err error) outcome {
	if token.AsError(err).Code == token.CodeLeaseLost {
		out.quiet = true
		return out
	}
	out.problem = seen.serviceProblem(err)
	return out
}

// serviceProblem words a failed call. A fault of the instance is the instance's to report; the grant waits for it.
func (seen observation) serviceProblem(err error) *problem {
	fault := token.AsError(err)
	if fault.Kind == token.KindInstance {
		p := seen.instanceProblem()
		p.cause = fault
		return p
	}
	return new(classify(fault))
}
