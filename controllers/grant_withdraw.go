package controllers

import (
	"context"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/credsecret"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/plan"
)

// withdraw has every token revoked and takes the current ones out of the Secret: the client is held, or is not allowed
// what it has. A Secret that somebody deleted goes altogether, for nothing may replace it.
func (r *GrantReconciler) withdraw(ctx context.Context, seen observation, out outcome) outcome {
	if !r.enter(ctx, seen, &out, r.allEntries(seen, seen.change(out.decision.Reason))) {
		return out
	}
	r.recent.note(seen.grant, func(g *recentGrant) { g.unsaved = nil })
	switch {
	case seen.secret.going:
		if out.err = r.letSecretGo(ctx, seen); out.err == nil {
			out.secret, out.event = secretView{state: plan.SecretMissing}, withdrawnEvent(out.decision.Reason)
			out.problem = seen.whyWaiting(out.decision)
		}
		return out
	case seen.layout == nil:
		out.problem = seen.instanceProblem()
		return out
	case seen.secret.immutable:
		out.problem = seen.immutableProblem()
		return out
	}
	facts := credsecret.Facts{Revision: seen.secret.facts.Revision, Reissue: seen.secret.facts.Reissue}
	out = r.save(ctx, seen, out, credsecret.Record{}, facts, withdrawnEvent(out.decision.Reason))
	if out.problem == nil {
		out.problem = seen.whyWaiting(out.decision)
	}
	return out
}
