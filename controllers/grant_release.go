package controllers

import (
	"context"
	"slices"

	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/budget"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/credsecret"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/desired"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/killpoint"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/ledger"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/plan"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
)

// release revokes what a deleted grant must not leave alive, deletes its Secret and lets it go. When it has waited long
// enough, the ledger takes over what is left.
func (r *GrantReconciler) release(ctx context.Context, seen observation, out outcome) outcome {
	if !controllerutil.ContainsFinalizer(seen.grant, v1alpha1.GrantFinalizer) {
		out.released = true
		return out
	}
	if seen.secret.state == plan.SecretOurs && !seen.input.Overdue {
		if out.quiet, out.err = r.hasHeir(ctx, seen.grant); out.quiet || out.err != nil {
			return out
		}
	}
	here, elsewhere := seen.toRevoke(out.decision.Revoke, r.recent.of(seen.grant).unsaved)
	if seen.input.Overdue {
		return r.handOver(ctx, seen, out, append(here, elsewhere...))
	}
	if !r.enter(ctx, seen, &out, seen.entries(elsewhere)) {
		return out
	}
	if out = r.revokeHere(ctx, seen, out, here); out.isHeldUp() {
		return out
	}
	if r.Ledger.pending(seen.grant.UID) > 0 {
		out.err = r.Ledger.expedite(ctx, seen.grant, ledger.Why(plan.CauseDeleted), seen.input.Now)
		out.quiet = true // the ledger wakes the grant
		return out
	}
	return r.letGo(ctx, seen, out)
}

// toRevoke finds the tokens on record that carry one of the fingerprints, and those that are on no record. Some of them
// cannot be revoked over the grant's own instance.
func (seen observation) toRevoke(fingerprints []string, unsaved []unsavedToken) (here, elsewhere []credsecret.Retired) {
	// Without facts the decision knows no fingerprint; then all that the payload lists must go, save what is abandoned.
	in := seen.input
	all := seen.secret.facts.Version == 0 && (!in.Abandon || in.Denied || in.OnHold)
	for _, t := range seen.superseded() {
		switch {
		case !all && !slices.Contains(fingerprints, t.Value.Fingerprint(string(seen.grant.UID))):
		case seen.revokedOver(t.Client) == desired.InstanceKey(seen.grant).String():
			here = append(here, t)
		default:
			elsewhere = append(elsewhere, t)
		}
	}
	for _, t := range unsaved {
		if t.Expires.After(seen.input.Now) {
			here = append(here, credsecret.Retired{Issued: t.Issued, Client: t.client})
		}
	}
	return here, elsewhere
}

// entries has tokens revoked by the ledger, as soon as their turn comes.
func (seen observation) entries(tokens []credsecret.Retired) []ledger.Entry {
	var entries []ledger.Entry
	for _, t := range tokens {
		entries = append(entries, seen.entry(t, plan.Fate{RevokeAt: seen.input.Now, Cause: plan.CauseDeleted}))
	}
	return entries
}

// revokeHere revokes tokens over the grant's instance.
func (r *GrantReconciler) revokeHere(ctx context.Context, seen observation, out outcome, tokens []credsecret.Retired) outcome {
	if len(tokens) == 0 {
		return out
	}
	if out.quiet = r.isConnecting(seen); out.quiet {
		return out
	}
	if seen.revoker == nil {
		out.problem = seen.instanceProblem()
		return out
	}
	out.event = revokedEvent(r.revokeAll(ctx, seen, &out, tokens))
	return out
}

// isHeldUp reports whether a pass must end here.
func (out outcome) isHeldUp() bool {
	return out.quiet || out.problem != nil || out.wait > 0 || out.err != nil
}

// handOver leaves what the service did not take back in time to the ledger, so that no deletion waits for a cloud that
// is down.
func (r *GrantReconciler) handOver(ctx context.Context, seen observation, out outcome, tokens []credsecret.Retired) outcome {
	left := slices.DeleteFunc(tokens, func(t credsecret.Retired) bool { return r.isRevoked(seen.grant, t.Value) })
	if !r.enter(ctx, seen, &out, seen.entries(left)) {
		if out.problem == nil || out.problem.reason != v1alpha1.ReasonRevocationBacklog {
			return out
		}
		out.problem = nil // the Secret keeps its finalizer: the orphan controller waits for room, and not for ever
		if out.err = client.IgnoreNotFound(r.patchFinalizer(ctx, seen.grant, controllerutil.RemoveFinalizer)); out.err == nil {
			out.released = true
		}
		return out
	}
	if len(left) > 0 {
		out.event = handedOverEvent(len(left))
	}
	return r.letGo(ctx, seen, out)
}

// letGo ends a grant whose tokens are revoked, or known to the ledger.
func (r *GrantReconciler) letGo(ctx context.Context, seen observation, out outcome) outcome {
	if seen.secret.planState() == plan.SecretOurs { // one that cannot be read goes as an orphan, its tokens first
		if out.err = r.letSecretGo(ctx, seen); out.err != nil {
			return out
		}
	}
	killpoint.Reached(killpoint.BeforeFinalizer)
	if out.err = client.IgnoreNotFound(r.patchFinalizer(ctx, seen.grant, controllerutil.RemoveFinalizer)); out.err == nil {
		out.released = true
	}
	return out
}

// revokeAll revokes what is not revoked yet, over the link of the instance that issued it, and says how many it revoked.
// The outcome says what kept it from the rest. So few revocations are allowed in a second that each has a turn of its own:
// a row of them, made a little later than granted, would be too many together with the next.
func (r *GrantReconciler) revokeAll(ctx context.Context, seen observation, out *outcome, tokens []credsecret.Retired) (count int) {
	due := slices.DeleteFunc(slices.Clone(tokens), func(t credsecret.Retired) bool { return r.isRevoked(seen.grant, t.Value) })
	ask := budget.Ask{
		Operation: budget.Revoke, Lane: budget.RevokeDeleted, ID: string(seen.grant.UID),
		Deadline: seen.grant.DeletionTimestamp.Add(r.RevocationDeadline), N: 1,
	}
	for _, t := range due {
		if out.wait = seen.revoker.budget.Take(ask, r.Clock.Now()); out.wait > 0 {
			return count
		}
		err := r.revoke(ctx, seen, t.Value)
		seen.revoker.budget.Done(ask.Operation, ask.ID)
		if err != nil {
			*out = out.failed(seen, err)
			return count
		}
		count++
	}
	return count
}

func (r *GrantReconciler) revoke(ctx context.Context, seen observation, value token.Value) error {
	err := seen.revoker.service.Revoke(ctx, value)
	r.Connections.report(desired.InstanceKey(seen.grant), seen.revoker, opRevoke, err, r.Clock.Now())
	if err != nil {
		return err
	}
	killpoint.Reached(killpoint.AfterRevoke)
	fingerprint := value.Fingerprint(string(seen.grant.UID))
	r.recent.note(seen.grant, func(g *recentGrant) { g.revoked = append(slices.Clip(g.revoked), fingerprint) })
	return nil
}

func (r *GrantReconciler) isRevoked(grant *v1alpha1.MqttTokenGrant, value token.Value) bool {
	return slices.Contains(r.recent.of(grant).revoked, value.Fingerprint(string(grant.UID)))
}
