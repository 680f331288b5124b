package controllers

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
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

// outcome is what came of a decision.
type outcome struct {
	decision plan.Decision
	secret   secretView // as it is afterwards
	problem  *problem   // nil: nothing is in the way
	event    *transition
	// wait is how long the call budget, or a cache that lags behind, wants us to stay away; zero: not at all.
	wait time.Duration
	// quiet says that something is about to happen that will wake the grant; there is nothing to report until then.
	quiet bool
	// released says that the finalizer is gone.
	released bool
	// err is a fault of the API server; the queue's own backoff handles it.
	err error
}

// act carries a decision out, as far as it can be.
func (r *GrantReconciler) act(ctx context.Context, seen observation, decision plan.Decision) outcome {
	out := outcome{decision: decision, secret: seen.secret}
	switch decision.Verb {
	case plan.Apply:
		return r.issue(ctx, seen, out)
	case plan.Rewrite:
		return r.rewrite(ctx, seen, out)
	case plan.Revoke:
		return r.revokeDue(ctx, seen, out)
	case plan.Release:
		return r.release(ctx, seen, out)
	case plan.Wait:
		out.problem = seen.whyWaiting(decision)
	case plan.Keep:
	}
	return out
}

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
	missing := seen.missingScopes(unsaved)
	if out.wait = seen.link.budget.Take(budget.Apply, string(seen.grant.UID), len(missing), seen.input.Now); out.wait > 0 && len(missing) > 0 {
		return out
	}
	if err := r.applyFor(ctx, seen, missing); err != nil {
		out.problem = seen.serviceProblem(err)
		return out
	}
	fresh := seen.pick(r.recent.of(seen.grant).unsaved)
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
	issued := seen.input.Now.Truncate(time.Second)
	for _, scope := range scopes {
		r.recent.note(seen.grant, func(g *recentGrant) { g.lastApplied = seen.input.Now })
		expires := issued.Add(seen.spec.Validity)
		value, err := seen.link.service.Apply(ctx, scope, expires)
		r.Connections.report(desired.InstanceKey(seen.grant), seen.link, err, r.Clock.Now())
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

// pick returns, for each wanted scope, the token that came back from the service and is in no Secret yet.
func (seen observation) pick(unsaved []unsavedToken) []credsecret.Issued {
	var picked []credsecret.Issued
	for _, scope := range seen.spec.Scopes {
		for _, t := range unsaved {
			if seen.fits(t, scope) {
				picked = append(picked, t.Issued)
				break
			}
		}
	}
	return picked
}

func (seen observation) missingScopes(unsaved []unsavedToken) []token.Scope {
	var missing []token.Scope
	for _, scope := range seen.spec.Scopes {
		found := false
		for _, t := range unsaved {
			found = found || seen.fits(t, scope)
		}
		if !found {
			missing = append(missing, scope)
		}
	}
	return missing
}

// fits reports whether a token that is in no Secret yet can still serve a scope: same client, same key, and more than
// half of the validity left.
func (seen observation) fits(t unsavedToken, scope token.Scope) bool {
	return t.client == seen.layout.Client() && t.keyID == seen.layout.KeyID &&
		token.ScopeID([]token.Scope{t.Scope}) == token.ScopeID([]token.Scope{scope}) &&
		t.Expires.After(seen.input.Now.Add(seen.spec.Validity/2)) && !t.Expires.After(seen.input.Now.Add(seen.spec.Validity))
}

// rewrite writes the Secret again with the tokens it holds.
func (r *GrantReconciler) rewrite(ctx context.Context, seen observation, out outcome) outcome {
	if seen.layout == nil {
		out.problem = seen.instanceProblem()
		return out
	}
	facts := credsecret.Facts{Revision: seen.secret.facts.Revision, Reissue: seen.secret.facts.Reissue}
	return r.save(ctx, seen, out, seen.secret.record, facts, repairedEvent())
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
		out.decision.Next = nextLook(seen, written)
	}
	return out
}

// nextLook is when the grant must be looked at after a write, by the same rules as ever.
func nextLook(seen observation, written secretView) time.Time {
	in := seen.input
	in.Secret, in.Held = plan.SecretOurs, written.held()
	if next := plan.Decide(in).Next; !next.IsZero() {
		return next
	}
	return in.Now
}

// revokeDue revokes retired tokens whose overlap is over and takes them off the record.
func (r *GrantReconciler) revokeDue(ctx context.Context, seen observation, out outcome) outcome {
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
	for _, t := range tokens {
		if r.isRevoked(seen.grant, t.Value) || !issuedBy(t.Client, seen.revoker.instanceID) {
			continue
		}
		if out.wait = seen.revoker.budget.Take(budget.Revoke, string(seen.grant.UID), 1, r.Clock.Now()); out.wait > 0 {
			return false
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

func (r *GrantReconciler) ensureFinalizer(ctx context.Context, grant *v1alpha1.MqttTokenGrant) error {
	if controllerutil.ContainsFinalizer(grant, v1alpha1.GrantFinalizer) {
		return nil
	}
	return r.patchFinalizer(ctx, grant, controllerutil.AddFinalizer)
}

func (r *GrantReconciler) patchFinalizer(ctx context.Context, grant *v1alpha1.MqttTokenGrant, change func(client.Object, string) bool) error {
	before := grant.DeepCopy()
	change(grant, v1alpha1.GrantFinalizer)
	if err := r.Patch(ctx, grant, onlyIfUnchanged(before)); err != nil {
		return fmt.Errorf("writing the finalizer: %w", err)
	}
	r.rememberWrite(grant)
	return nil
}

// onlyIfUnchanged is a merge patch that fails if the object is not the one that was read: lists such as finalizers and
// conditions are replaced whole, so a patch made from an old copy would undo what others did.
func onlyIfUnchanged(before client.Object) client.Patch {
	return client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
}

func (r *GrantReconciler) rememberWrite(grant *v1alpha1.MqttTokenGrant) {
	r.recent.note(grant, func(g *recentGrant) { g.grantVersion = grant.ResourceVersion })
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
