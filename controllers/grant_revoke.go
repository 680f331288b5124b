package controllers

import (
	"context"
	"slices"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/budget"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/credsecret"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/desired"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/plan"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
)

// revokeBurst is how many tokens are revoked in one go: as many as a grant usually has. Longer lists take turns with
// other grants.
const revokeBurst = 3

// revokeDue revokes retired tokens whose overlap is over and takes them off the record. Those that another instance
// issued cannot be revoked over this link; they stay on record and are left to expire.
func (r *GrantReconciler) revokeDue(ctx context.Context, seen observation, out outcome) outcome {
	if out.quiet = r.isConnecting(seen); out.quiet {
		return out
	}
	if seen.revoker == nil || seen.layout == nil {
		out.problem = seen.instanceProblem()
		return out
	}
	count, done := r.revokeAll(ctx, seen, &out, seen.listed(out.decision.Revoke))
	if !done {
		return out
	}
	record := credsecret.Record{Tokens: seen.secret.record.Tokens}
	for _, t := range seen.secret.record.Retired {
		if r.isRevoked(seen.grant, t.Value) || !t.Expires.After(seen.input.Now) {
			continue
		}
		if !issuedBy(t.Client, seen.revoker.instanceID) {
			t.RevokeAt = time.Time{}
		}
		record.Retired = append(record.Retired, t)
	}
	facts := credsecret.Facts{Revision: seen.secret.facts.Revision, Reissue: seen.secret.facts.Reissue}
	out = r.save(ctx, seen, out, record, facts, revokedEvent(count))
	if out.problem == nil && out.err == nil {
		r.recent.note(seen.grant, func(g *recentGrant) { g.revoked = nil }) // none of them is on record any more
	}
	return out
}

// revokeMeanwhile revokes what is due although new tokens cannot be had: an outage of one must not hold up the other.
func (r *GrantReconciler) revokeMeanwhile(ctx context.Context, seen observation, out outcome) outcome {
	due := seen.input.DueRevocations()
	if len(due) == 0 || out.problem == nil {
		return out
	}
	revoked := r.revokeDue(ctx, seen, outcome{decision: plan.Decision{Verb: plan.Revoke, Reason: plan.ReasonRevocationDue, Revoke: due}, secret: seen.secret})
	out.secret, out.event, out.err = revoked.secret, revoked.event, revoked.err
	switch {
	case revoked.wait > 0:
		out.decision.Next = seen.input.Now.Add(revoked.wait)
	case revoked.problem != nil: // it must be tried again, even where issuing waits for a person
		waiting := *out.problem
		waiting.attempt = true
		out.problem = &waiting
	}
	return out
}

// release revokes what a deleted grant must not leave alive, deletes its Secret and lets it go.
func (r *GrantReconciler) release(ctx context.Context, seen observation, out outcome) outcome {
	if !controllerutil.ContainsFinalizer(seen.grant, v1alpha1.GrantFinalizer) {
		out.released = true
		return out
	}
	due := seen.listed(out.decision.Revoke)
	for _, t := range r.recent.of(seen.grant).unsaved {
		if t.Expires.After(seen.input.Now) {
			due = append(due, credsecret.Retired{Issued: t.Issued, Client: t.client})
		}
	}
	if len(due) > 0 {
		if out.quiet = r.isConnecting(seen); out.quiet {
			return out
		}
		if seen.revoker == nil {
			out.problem = seen.instanceProblem()
			return out
		}
		count, done := r.revokeAll(ctx, seen, &out, due)
		if !done {
			return out
		}
		out.event = revokedEvent(count)
	}
	if seen.secret.state == plan.SecretOurs {
		if out.err = r.deleteSecret(ctx, seen); out.err != nil {
			return out
		}
	}
	if out.err = client.IgnoreNotFound(r.patchFinalizer(ctx, seen.grant, controllerutil.RemoveFinalizer)); out.err == nil {
		out.released = true
	}
	return out
}

// listed finds the tokens on record that carry one of the fingerprints.
func (seen observation) listed(fingerprints []string) []credsecret.Retired {
	wanted := map[string]bool{}
	for _, f := range fingerprints {
		wanted[f] = true
	}
	var found []credsecret.Retired
	all := append([]credsecret.Retired{}, seen.secret.record.Retired...)
	for _, t := range seen.secret.record.Tokens {
		all = append(all, credsecret.Retired{Issued: t, Client: seen.secret.facts.Client})
	}
	for _, t := range all {
		if wanted[t.Value.Fingerprint(string(seen.grant.UID))] {
			found = append(found, t)
		}
	}
	return found
}

// revokeAll revokes what is not revoked yet, over the link of the instance that issued it, and says how many it revoked
// and whether that was all.
func (r *GrantReconciler) revokeAll(ctx context.Context, seen observation, out *outcome, tokens []credsecret.Retired) (count int, done bool) {
	due := slices.DeleteFunc(slices.Clone(tokens), func(t credsecret.Retired) bool {
		return r.isRevoked(seen.grant, t.Value) || !issuedBy(t.Client, seen.revoker.instanceID)
	})
	id := string(seen.grant.UID)
	for part := range slices.Chunk(due, revokeBurst) {
		if out.wait = seen.revoker.budget.Take(budget.Revoke, id, len(part), r.Clock.Now()); out.wait > 0 {
			return count, false
		}
		for _, t := range part {
			if out.problem = r.revoke(ctx, seen, t.Value); out.problem != nil {
				break
			}
			count++
		}
		seen.revoker.budget.Done(budget.Revoke, id)
		if out.problem != nil {
			return count, false
		}
	}
	return count, true
}

func (r *GrantReconciler) revoke(ctx context.Context, seen observation, value token.Value) *problem {
	err := seen.revoker.service.Revoke(ctx, value)
	r.Connections.report(desired.InstanceKey(seen.grant), seen.revoker, opRevoke, err, r.Clock.Now())
	if err != nil {
		p := seen.serviceProblem(err)
		p.stalled = false // no edit of the grant helps
		return p
	}
	fingerprint := value.Fingerprint(string(seen.grant.UID))
	r.recent.note(seen.grant, func(g *recentGrant) { g.revoked = append(slices.Clip(g.revoked), fingerprint) })
	return nil
}

func (r *GrantReconciler) isRevoked(grant *v1alpha1.MqttTokenGrant, value token.Value) bool {
	return slices.Contains(r.recent.of(grant).revoked, value.Fingerprint(string(grant.UID)))
}
