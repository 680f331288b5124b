package controllers

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/budget"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/credsecret"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/desired"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/plan"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
)

// revokeDue revokes retired tokens whose overlap is over and takes them off the record.
func (r *GrantReconciler) revokeDue(ctx context.Context, seen observation, out outcome) outcome {
	if out.quiet = r.isConnecting(seen); out.quiet {
		return out
	}
	if seen.revoker == nil || seen.layout == nil {
		out.problem = seen.instanceProblem()
		return out
	}
	if done := r.revokeAll(ctx, seen, &out, seen.listed(out.decision.Revoke)); !done {
		return out
	}
	record := credsecret.Record{Tokens: seen.secret.record.Tokens}
	for _, t := range seen.secret.record.Retired {
		if !r.isRevoked(seen.grant, t.Value) && t.Expires.After(seen.input.Now) {
			record.Retired = append(record.Retired, t)
		}
	}
	facts := credsecret.Facts{Revision: seen.secret.facts.Revision, Reissue: seen.secret.facts.Reissue}
	return r.save(ctx, seen, out, record, facts, revokedEvent(len(out.decision.Revoke)))
}

// release revokes what a deleted grant must not leave alive, deletes its Secret and lets it go.
func (r *GrantReconciler) release(ctx context.Context, seen observation, out outcome) outcome {
	if !controllerutil.ContainsFinalizer(seen.grant, v1alpha1.GrantFinalizer) {
		out.released = true
		return out
	}
	due := seen.listed(out.decision.Revoke)
	for _, t := range r.recent.of(seen.grant).unsaved {
		due = append(due, credsecret.Retired{Issued: t.Issued, Client: t.client})
	}
	if len(due) > 0 {
		if out.quiet = r.isConnecting(seen); out.quiet {
			return out
		}
		if seen.revoker == nil {
			out.problem = seen.instanceProblem()
			return out
		}
		if done := r.revokeAll(ctx, seen, &out, due); !done {
			return out
		}
		out.event = revokedEvent(len(due))
	}
	if seen.secret.state == plan.SecretOurs {
		secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: seen.grant.Namespace, Name: seen.secret.meta.Name}}
		err := r.Delete(ctx, secret, client.Preconditions{UID: &seen.secret.meta.UID})
		if out.err = client.IgnoreNotFound(err); out.err != nil {
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

// revokeAll revokes what is not revoked yet and reports whether all of it is. Tokens that another instance issued
// cannot be revoked over this link; they are left to expire.
func (r *GrantReconciler) revokeAll(ctx context.Context, seen observation, out *outcome, tokens []credsecret.Retired) bool {
	defer seen.revoker.budget.Done(budget.Revoke, string(seen.grant.UID))
	for _, t := range tokens {
		if r.isRevoked(seen.grant, t.Value) || !issuedBy(t.Client, seen.revoker.instanceID) {
			continue
		}
		err := seen.revoker.service.Revoke(ctx, t.Value)
		r.Connections.report(desired.InstanceKey(seen.grant), seen.revoker, err, r.Clock.Now())
		if err != nil {
			out.problem = seen.serviceProblem(err)
			return false
		}
		r.recent.note(seen.grant, func(g *recentGrant) {
			g.revoked = append(slices.Clip(g.revoked), t.Value.Fingerprint(string(seen.grant.UID)))
		})
	}
	return true
}

func (r *GrantReconciler) isRevoked(grant *v1alpha1.MqttTokenGrant, value token.Value) bool {
	return slices.Contains(r.recent.of(grant).revoked, value.Fingerprint(string(grant.UID)))
}
