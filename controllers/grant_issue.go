package controllers

import (
	"context"
	"slices"
	"time"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/budget"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/credsecret"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/desired"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/plan"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
)

// issue applies for every wanted scope and writes the Secret. What the service gave and the API server did not take is
// remembered for the next try.
func (r *GrantReconciler) issue(ctx context.Context, seen observation, out outcome) outcome {
	if out.quiet = r.isConnecting(seen); out.quiet {
		return out
	}
	if out.problem = seen.whyNotIssue(); out.problem != nil {
		return out
	}
	if out.err = r.ensureFinalizer(ctx, seen.grant); out.err != nil {
		return out
	}
	unsaved := r.recent.of(seen.grant).unsaved
	_, missing := seen.pick(unsaved)
	if err := r.applyFor(ctx, seen, missing); err != nil {
		out.problem = seen.serviceProblem(err)
		return out
	}
	fresh, _ := seen.pick(r.recent.of(seen.grant).unsaved)
	record := seen.supersede(fresh, unsaved)
	facts := credsecret.Facts{Revision: seen.secret.facts.Revision + 1, Reissue: seen.input.Reissue}
	return r.save(ctx, seen, out, record, facts, issueEvent(out.decision.Reason))
}

// isConnecting reports whether the instance has not been looked at since this process started. The grants are woken
// when it has; until then nobody knows whether there is anything to report.
func (r *GrantReconciler) isConnecting(seen observation) bool {
	return seen.instance != nil && !r.Connections.knows(desired.InstanceKey(seen.grant))
}

// applyFor asks the service for one token after the other and remembers each at once.
func (r *GrantReconciler) applyFor(ctx context.Context, seen observation, scopes []token.Scope) error {
	defer seen.link.budget.Done(budget.Apply, string(seen.grant.UID))
	issued := seen.input.Now.Truncate(time.Second)
	for _, scope := range scopes {
		r.recent.note(seen.grant, func(g *recentGrant) { g.lastApplied = seen.input.Now })
		expires := issued.Add(seen.spec.Validity)
		value, err := seen.link.service.Apply(ctx, scope, expires)
		r.Connections.report(desired.InstanceKey(seen.grant), seen.link, opApply, err, r.Clock.Now())
		if err != nil {
			return err
		}
		fresh := credsecret.Issued{Scope: scope, Value: value, Issued: issued, Expires: expires}
		r.recent.note(seen.grant, func(g *recentGrant) {
			g.unsaved = append(slices.Clip(g.unsaved), unsavedToken{Issued: fresh, client: seen.layout.Client(), keyID: seen.layout.KeyID})
		})
	}
	return nil
}

// pick returns, for each wanted scope, the token that came back from the service and is in no Secret yet, and the scopes
// that have none.
func (seen observation) pick(unsaved []unsavedToken) (picked []credsecret.Issued, missing []token.Scope) {
	for _, scope := range seen.spec.Scopes {
		i := slices.IndexFunc(unsaved, func(t unsavedToken) bool { return seen.fits(t, scope) })
		if i < 0 {
			missing = append(missing, scope)
			continue
		}
		picked = append(picked, unsaved[i].Issued)
	}
	return picked, missing
}

// fits reports whether a token that is in no Secret yet can still serve a scope: same client, same key, and more than
// half of the validity left.
func (seen observation) fits(t unsavedToken, scope token.Scope) bool {
	return t.client == seen.layout.Client() && t.keyID == seen.layout.KeyID &&
		token.ScopeID([]token.Scope{t.Scope}) == token.ScopeID([]token.Scope{scope}) &&
		t.Expires.After(seen.input.Now.Add(seen.spec.Validity/2)) && !t.Expires.After(seen.input.Now.Add(seen.spec.Validity))
}

// keptRetired is how many retired tokens are left to expire: more than renewals alone ever leave alive, nine times three.
// Older ones are revoked, so that a grant that is reissued all the time does not outgrow its Secret.
const keptRetired = 32

// bounded has the oldest tokens beyond keptRetired revoked, and forgets what is beyond what a Secret may hold: then
// revoking has failed for a long time.
func bounded(retired []credsecret.Retired, now time.Time) []credsecret.Retired {
	slices.SortStableFunc(retired, func(a, b credsecret.Retired) int { return b.Issued.Issued.Compare(a.Issued.Issued) })
	for i := keptRetired; i < len(retired); i++ {
		retired[i].RevokeAt = now
	}
	return retired[:min(len(retired), credsecret.MaxRetired)]
}

// supersede moves the tokens in use to the retired ones, beside those that came back from a failed write and no longer
// fit. What they allow beyond the wanted scopes decides whether they must be revoked.
func (seen observation) supersede(fresh []credsecret.Issued, unsaved []unsavedToken) credsecret.Record {
	now, record := seen.input.Now, credsecret.Record{Tokens: fresh}
	old := append([]credsecret.Retired{}, seen.secret.record.Retired...)
	for _, t := range seen.secret.record.Tokens {
		old = append(old, credsecret.Retired{Issued: t, Client: seen.secret.facts.Client})
	}
	for _, r := range old {
		exceeds := r.Client != seen.input.Client || plan.Exceeds(r.Scope, seen.input.Wanted)
		r.RevokeAt = plan.RevokeAt(r.RevokeAt, exceeds, now, seen.spec.Overlap)
		if !issuedBy(r.Client, seen.layout.InstanceID) {
			r.RevokeAt = time.Time{} // over no link that the grant has; it is left to expire
		}
		if r.Expires.After(now) {
			record.Retired = append(record.Retired, r)
		}
	}
	inUse := map[token.Value]bool{}
	for _, t := range fresh {
		inUse[t.Value] = true
	}
	for _, t := range unsaved {
		if !inUse[t.Value] && t.Expires.After(now) {
			record.Retired = append(record.Retired, credsecret.Retired{Issued: t.Issued, Client: t.client, RevokeAt: now})
		}
	}
	record.Retired = bounded(record.Retired, now)
	return record
}
