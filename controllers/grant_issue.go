package controllers

import (
	"context"
	"slices"
	"time"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/budget"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/credsecret"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/desired"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/killpoint"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/ledger"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/plan"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
)

// issue applies for every wanted scope and writes the Secret. What the service gave and the API server did not take is
// remembered for the next try. Old tokens that must go are in the ledger before the Secret loses them.
func (r *GrantReconciler) issue(ctx context.Context, seen observation, out outcome) outcome {
	if out.quiet = r.isConnecting(seen); out.quiet {
		return out
	}
	if out.problem = seen.whyNotIssue(); out.problem != nil {
		return out
	}
	old := seen.divide(seen.superseded(), seen.change(out.decision.Reason))
	if r.Ledger.pending(seen.grant.UID)+len(old.entries) > ledger.MaxEntries {
		out.problem = backlogProblem()
		return out
	}
	if out.err = r.ensureFinalizer(ctx, seen.grant); out.err != nil {
		return out
	}
	unsaved := r.recent.of(seen.grant).unsaved
	_, missing := seen.pick(unsaved)
	if err := r.applyFor(ctx, seen, missing); err != nil {
		return out.failed(seen, err)
	}
	fresh, _ := seen.pick(r.recent.of(seen.grant).unsaved)
	if !r.enter(ctx, seen, &out, append(old.entries, seen.leftOver(unsaved, fresh)...)) {
		return out
	}
	facts := credsecret.Facts{Revision: seen.secret.facts.Revision + 1, Reissue: seen.input.Reissue}
	if seen.secret.going {
		if out.err = r.letSecretGo(ctx, seen); out.err != nil {
			return out
		}
		seen.secret.state = plan.SecretMissing
	}
	return r.save(ctx, seen, out, credsecret.Record{Tokens: fresh, Retired: old.stay}, facts, issueEvent(out.decision.Reason, old.clamped))
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
		killpoint.Reached(killpoint.AfterApply)
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
		sameScope(t.Scope, scope) &&
		t.Expires.After(seen.input.Now.Add(seen.spec.Validity/2)) && !t.Expires.After(seen.input.Now.Add(seen.spec.Validity))
}
