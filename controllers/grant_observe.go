package controllers

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/credsecret"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/desired"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/ledger"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/plan"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/policy"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
)

// observation is everything known about one grant at one moment. Nothing changes it after observe has returned it, save
// that writes to the grant bring its resource version up to date.
type observation struct {
	grant    *v1alpha1.MqttTokenGrant
	spec     desired.Grant
	specErr  error // the spec cannot be understood; spec is zero then
	instance *v1alpha1.MqttInstance
	link     *link  // nil: there is no usable connection now
	revoker  *link  // nil: there is none to revoke over, either
	former   string // the MqttInstance that the tokens on record came from, if it is another one and may be used
	// terminating says that the grant's namespace is being deleted.
	terminating bool
	violations  []policy.Violation
	rival       *v1alpha1.MqttTokenGrant // that goes before this one for its client id; nil: there is none
	guard       guardVerdict             // on a denial
	rolloutsOn  bool                     // workloads are restarted when tokens change
	layout      *credsecret.Layout       // nil while instance or key are not known
	secret      secretView
	input       plan.Input
}

// observe gathers what the caches know. It reads nothing live and changes nothing.
func (r *GrantReconciler) observe(ctx context.Context, grant *v1alpha1.MqttTokenGrant) (observation, error) {
	secret, err := r.cachedSecret(ctx, grant)
	if err != nil {
		return observation{}, err
	}
	return r.assemble(ctx, grant, secret)
}

// observeLive is observe with the Secret, payload included, as the API server has it now. A Secret that was written for
// a later generation shows that the cached grant is old; then the grant is read live too.
func (r *GrantReconciler) observeLive(ctx context.Context, grant *v1alpha1.MqttTokenGrant) (observation, error) {
	secret, err := r.liveSecret(ctx, grant)
	if err != nil {
		return observation{}, err
	}
	if secret.state == plan.SecretOurs && secret.facts.Generation > grant.Generation {
		fresh := &v1alpha1.MqttTokenGrant{}
		if err := r.Live.Get(ctx, client.ObjectKeyFromObject(grant), fresh); err != nil {
			return observation{}, fmt.Errorf("reading the grant: %w", err)
		}
		if fresh.UID != grant.UID || secret.facts.Generation > fresh.Generation {
			secret.damaged = true // no generation of this grant wrote that
		}
		grant = fresh
	}
	return r.assemble(ctx, grant, secret)
}

func (r *GrantReconciler) assemble(ctx context.Context, grant *v1alpha1.MqttTokenGrant, secret secretView) (observation, error) {
	seen := observation{grant: grant, secret: secret, rolloutsOn: r.RolloutRestarts}
	seen.spec, seen.specErr = desired.FromGrant(&grant.Spec)
	key := desired.InstanceKey(grant)
	instance := &v1alpha1.MqttInstance{}
	switch err := r.Get(ctx, key, instance); {
	case err == nil:
		seen.instance = instance
	case !apierrors.IsNotFound(err):
		return observation{}, fmt.Errorf("reading MqttInstance %s: %w", key, err)
	}
	seen.link, seen.revoker = r.Connections.usable(key), r.Connections.lastGood(key)
	if seen.link != nil && (seen.instance == nil || seen.link.instanceID != seen.instance.Spec.InstanceID) {
		seen.link = nil // made for an MqttInstance of the same name that is gone
	}
	namespace, err := namespaceOf(ctx, r.Client, grant.Namespace)
	if err != nil {
		return observation{}, err
	}
	seen.terminating = !namespace.DeletionTimestamp.IsZero()
	if secret.facts.Instance != key.String() {
		if seen.former, err = recordedIssuer(ctx, r.Client, r.Connections, namespace, secret.facts); err != nil {
			return observation{}, err
		}
	}
	var rules []policy.Rule
	if seen.instance != nil && seen.specErr == nil {
		rules = desired.Rules(seen.instance, grant.Namespace, namespace.Labels)
		seen.violations = policy.Check(rules, seen.spec.Request(grant))
		if seen.rival, err = r.findRival(ctx, grant, seen.instance.Spec.InstanceID); err != nil {
			return observation{}, err
		}
	}
	seen.layout = seen.layOut(r.ClusterID)
	seen.secret.touched = secret.touched || secret.isTouched(fieldManager(grant), seen.layout)
	if seen.guard, err = r.judgeDenial(ctx, seen, rules); err != nil {
		return observation{}, err
	}
	seen.input = r.planInput(seen)
	return seen, nil
}

// judgeDenial asks whether a denial may take away the tokens that the Secret holds. Tokens of another MqttInstance of
// the same name are left to expire: that one being gone is no denial.
func (r *GrantReconciler) judgeDenial(ctx context.Context, seen observation, rules []policy.Rule) (guardVerdict, error) {
	key := client.ObjectKeyFromObject(seen.grant)
	if seen.mustLookCloser() {
		return guardVerdict{}, nil
	}
	if !seen.holdsWhatIsDenied(rules) {
		r.Guard.forget(key)
		return guardVerdict{}, nil
	}
	tampered := seen.secret.tampered()
	if issuer := seen.secret.facts.InstanceUID; issuer != "" && issuer != string(seen.instance.UID) && !tampered {
		return guardVerdict{}, nil
	}
	return r.Guard.judge(ctx, seen.instance, key, !tampered, r.Clock.Now())
}

// holdsWhatIsDenied reports whether the tokens in the Secret allow something that the rules do not. A spec that asks for
// too much takes nothing away; what is in the Secret then, only its payload says, and of a Secret that somebody else
// wrote to, nothing does.
func (seen observation) holdsWhatIsDenied(rules []policy.Rule) bool {
	facts := seen.secret.facts
	if len(seen.violations) == 0 || seen.secret.state != plan.SecretOurs || len(facts.Tokens) == 0 && !seen.secret.tampered() {
		return false
	}
	request := seen.spec.Request(seen.grant)
	request.Validity = 0                                                                      // tokens that last longer than is allowed by now are not renewed, and end
	if _, client, found := strings.Cut(facts.Client, "/"); found && !seen.secret.tampered() { // for whom they were issued
		request.GroupID, request.DeviceID, _ = strings.Cut(client, "@@@")
	}
	edited := facts.Scope != token.ScopeID(seen.spec.Scopes)
	if edited && !seen.secret.tampered() {
		request.Topics = permissionsOf(seen.secret.record.Tokens)
	}
	return len(policy.Check(rules, request)) > 0
}

// mustLookCloser reports whether only the payload says what a denied grant holds.
func (seen observation) mustLookCloser() bool {
	return len(seen.violations) > 0 && seen.secret.state == plan.SecretOurs && !seen.secret.live && !seen.secret.tampered() &&
		len(seen.secret.facts.Tokens) > 0 && seen.secret.facts.Scope != token.ScopeID(seen.spec.Scopes)
}

func permissionsOf(tokens []credsecret.Issued) []token.Permission {
	var list []token.Permission
	for _, t := range tokens {
		for _, filter := range t.Scope.Topics {
			list = append(list, token.Permission{Filter: filter, Actions: t.Scope.Type.Actions()})
		}
	}
	return list
}

// layOut says how the Secret should look. While there is no connection, the key that clients use is the one on record.
func (seen observation) layOut(clusterID string) *credsecret.Layout {
	keyID := seen.secret.facts.KeyID
	if seen.link != nil {
		keyID = seen.link.keyID
	}
	if seen.instance == nil || keyID == "" {
		return nil
	}
	spec, broker := seen.grant.Spec, seen.instance.Spec.Broker
	layout := &credsecret.Layout{
		Namespace: seen.grant.Namespace, Name: desired.SecretName(seen.grant),
		Labels: spec.Secret.Labels, Annotations: spec.Secret.Annotations,
		Env: spec.Secret.Format == v1alpha1.SecretFormatEnv, Templates: spec.Secret.Template,
		GrantName: seen.grant.Name, GrantUID: string(seen.grant.UID), ClusterID: clusterID,
		InstanceID: seen.instance.Spec.InstanceID, KeyID: keyID,
		InstanceKey: desired.InstanceKey(seen.grant).String(), InstanceUID: string(seen.instance.UID),
		GroupID: spec.Client.GroupID, DeviceID: spec.Client.DeviceID,
		Broker: credsecret.Broker{
			Host: broker.Host, TLSPort: broker.Ports.TLS, WSSPort: broker.Ports.WSS, TCPPort: broker.Ports.TCP,
			CA: broker.CABundle, AllowPlaintext: ptr.Deref(broker.AllowPlaintext, false),
		},
		RenewBefore: seen.spec.RenewBefore,
	}
	if layout.DeviceID != "" {
		layout.ClientID = desired.ClientID(spec.Client)
	}
	if layout.Broker.Host == "" {
		layout.Broker.Host = brokerHost(seen.instance.Spec.InstanceID)
	}
	return layout
}

// planInput gathers the facts of a decision. Its clock is the service's, which ends tokens by it.
func (r *GrantReconciler) planInput(seen observation) plan.Input {
	grant, facts, known, key := seen.grant, seen.secret.facts, r.recent.of(seen.grant), desired.InstanceKey(seen.grant)
	local := r.Clock.Now()
	in := plan.Input{
		Now: local.Add(r.Connections.offset(key)), Seed: string(grant.UID),
		Deleting: !grant.DeletionTimestamp.IsZero(), Overdue: r.isOverdue(grant, local),
		Abandon: grant.Spec.DeletionPolicy == v1alpha1.DeletionPolicyAbandon,
		OnHold:  isOnHold(grant),
		Denied:  len(seen.violations) > 0 || seen.rival != nil, Withdrawable: seen.guard.proceed,
		Suspended: ptr.Deref(grant.Spec.Suspend, false),
		Wanted:    seen.spec.Scopes, Reissue: reissueMark(grant),
		RenewBefore: seen.spec.RenewBefore, Overlap: seen.spec.Overlap, Flaky: r.Connections.flaky(key, local),
		Client: facts.Client, KeyID: facts.KeyID, Rendering: facts.Rendering, // unless the layout is known
		Secret: seen.secret.planState(), Held: seen.secret.held(), LastApplied: known.lastApplied,
	}
	if seen.layout != nil {
		in.Client, in.KeyID, in.Rendering = seen.layout.Client(), seen.layout.KeyID, seen.layout.ID()
	}
	if seen.instance != nil {
		in.Compromised = seen.instance.Annotations[v1alpha1.CompromisedKeyAnnotation]
		in.Held.Invalid = hasInvalid(in.Held, known.invalid) && r.Connections.mayReissueInvalid(seen.instance, local)
	}
	in.Held.Invalid = in.Held.Invalid || r.isDoomed(string(grant.UID), in.Held)
	if seen.link != nil {
		in.VerifyAt = plan.VerifyAt(r.lastVerified(grant, in.Now), r.VerifyInterval, in.Seed)
	}
	// A moment farther ahead than any backoff was noted by a clock that has been set back since.
	next := grant.Status.NextAttemptTime
	if next != nil && !next.After(in.Now.Add(plan.MaxBackoff)) && ptr.Deref(grant.Status.ObservedGeneration, 0) == grant.Generation {
		in.NotBefore = next.Time
	}
	return in
}

// lastVerified is when the service was last asked about the tokens. A process that has just started does not ask about
// all of them at once: it goes on where the spread of the moments puts it.
func (r *GrantReconciler) lastVerified(grant *v1alpha1.MqttTokenGrant, now time.Time) time.Time {
	if last := r.recent.of(grant).verified; !last.IsZero() {
		return last
	}
	r.recent.note(grant, func(g *recentGrant) { g.verified = now })
	return now
}

// isOverdue reports whether a deletion has waited long enough. A deletion that seems to lie in the future, because the
// clocks of API server and manager differ, counts from when this process first saw it.
func (r *GrantReconciler) isOverdue(grant *v1alpha1.MqttTokenGrant, now time.Time) bool {
	return !grant.DeletionTimestamp.IsZero() && !now.Before(r.deletionSince(grant, now).Add(r.RevocationDeadline))
}

func (r *GrantReconciler) deletionSince(grant *v1alpha1.MqttTokenGrant, now time.Time) time.Time {
	since := grant.DeletionTimestamp.Time
	if seen := r.recent.of(grant).deletionSeen; !seen.IsZero() && seen.Before(since) {
		since = seen
	}
	if since.After(now) {
		r.recent.note(grant, func(g *recentGrant) { g.deletionSeen = now })
		return now
	}
	return since
}

// untilOverdue cuts a wait short when the deletion stops waiting before that. No wait means one for something to happen.
func (r *GrantReconciler) untilOverdue(seen observation, wait time.Duration) time.Duration {
	if !seen.input.Deleting || seen.input.Overdue {
		return wait
	}
	now := r.Clock.Now()
	left := r.deletionSince(seen.grant, now).Add(r.RevocationDeadline).Sub(now)
	if wait == 0 || left < wait {
		wait = left
	}
	return max(time.Millisecond, wait)
}

// isDoomed reports whether the ledger revokes, or has revoked, a token that the Secret of a grant offers: it could not be
// written when the token had to go.
func (r *GrantReconciler) isDoomed(grantUID string, held plan.Held) bool {
	page := ledger.Name(grantUID)
	return slices.ContainsFunc(held.Tokens, func(t plan.HeldToken) bool { return r.Ledger.index.isDoomed(page, t.Fingerprint) })
}

func hasInvalid(held plan.Held, invalid []string) bool {
	return slices.ContainsFunc(held.Tokens, func(t plan.HeldToken) bool { return slices.Contains(invalid, t.Fingerprint) })
}

func isOnHold(grant *v1alpha1.MqttTokenGrant) bool {
	_, found := grant.Annotations[v1alpha1.HoldAnnotation]
	return found
}

// reissueMark stands for the value of the annotation, which may be of any length.
func reissueMark(grant *v1alpha1.MqttTokenGrant) string {
	value := grant.Annotations[v1alpha1.ReissueAnnotation]
	if value == "" {
		return ""
	}
	return token.NewValue(value).Fingerprint("reissue")
}

// tokensMatch reports whether the Secret holds tokens that are what the spec wants and valid now.
func (seen observation) tokensMatch(secret secretView) bool {
	held := secret.held()
	return seen.specErr == nil && secret.state == plan.SecretOurs && !secret.damaged &&
		held.ScopeID == token.ScopeID(seen.spec.Scopes) && held.Client == seen.input.Client &&
		held.Expires().After(seen.input.Now)
}
