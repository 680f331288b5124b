package controllers

import (
	"context"
	"time"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/budget"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/desired"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/plan"
)

// verifyRetry is when a check that could not be made is made again. Nothing hangs on it: the tokens are as good as they
// were.
const verifyRetry = time.Minute

// verify asks the service about each token in the Secret. One that it calls invalid was revoked by somebody else; the
// next pass replaces it, unless so many are that the answer itself is in doubt.
func (r *GrantReconciler) verify(ctx context.Context, seen observation, out outcome) outcome {
	key, id := desired.InstanceKey(seen.grant), string(seen.grant.UID)
	defer seen.link.budget.Done(budget.Query, id)
	var invalid []string
	for _, t := range seen.secret.record.Tokens {
		valid, err := seen.link.service.Query(ctx, t.Value)
		r.Connections.report(key, seen.link, opQuery, err, r.Clock.Now())
		if err != nil { // the metrics count it; no owner of a grant needs to know
			out.decision.Next = seen.input.Now.Add(verifyRetry)
			return out
		}
		r.Connections.noteVerdict(key, valid, r.Clock.Now())
		if !valid {
			invalid = append(invalid, t.Value.Fingerprint(id))
		}
	}
	r.recent.note(seen.grant, func(g *recentGrant) { g.verified, g.invalid = seen.input.Now, invalid })
	if len(invalid) > 0 {
		out.event = tokenInvalidEvent()
	}
	in := seen.input
	in.VerifyAt = plan.VerifyAt(in.Now, r.VerifyInterval, in.Seed)
	in.Held.Invalid = len(invalid) > 0 && r.Connections.mayReissueInvalid(seen.instance, r.Clock.Now())
	out.decision.Next = nextLook(in)
	return out
}
