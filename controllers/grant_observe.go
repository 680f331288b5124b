package controllers

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/credsecret"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/desired"
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
	link     *link // nil: there is no usable connection now
	revoker  *link // nil: there is none to revoke over, either
	// terminating says that the grant's namespace is being deleted.
	terminating bool
	violations  []policy.Violation
	layout      *credsecret.Layout // nil while instance or key are not known
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
	seen := observation{grant: grant, secret: secret}
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
	namespace := &metav1.PartialObjectMetadata{}
	namespace.SetGroupVersionKind(NamespaceKind())
	if err := r.Get(ctx, types.NamespacedName{Name: grant.Namespace}, namespace); err != nil && !apierrors.IsNotFound(err) {
		return observation{}, fmt.Errorf("reading namespace %s: %w", grant.Namespace, err)
	}
	seen.terminating = !namespace.DeletionTimestamp.IsZero()
	if seen.instance != nil && seen.specErr == nil {
		rules := desired.Rules(seen.instance, grant.Namespace, namespace.Labels)
		seen.violations = policy.Check(rules, seen.spec.Request(grant))
	}
	seen.layout = seen.layOut(r.ClusterID)
	seen.secret.touched = secret.touched || secret.isTouched(fieldManager(grant), seen.layout)
	seen.input = seen.planInput(r.Clock.Now(), r.recent.of(grant).lastApplied)
	return seen, nil
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
		layout.Broker.Host = seen.instance.Spec.InstanceID + ".mqtt.aliyuncs.com"
	}
	return layout
}

func (seen observation) planInput(now, lastApplied time.Time) plan.Input {
	grant, facts := seen.grant, seen.secret.facts
	in := plan.Input{
		Now: now, Seed: string(grant.UID),
		Deleting: !grant.DeletionTimestamp.IsZero(), Abandon: grant.Spec.DeletionPolicy == v1alpha1.DeletionPolicyAbandon,
		Denied: len(seen.violations) > 0, Suspended: ptr.Deref(grant.Spec.Suspend, false),
		Wanted: seen.spec.Scopes, Reissue: reissueMark(grant),
		RenewBefore: seen.spec.RenewBefore,
		Client:      facts.Client, KeyID: facts.KeyID, Rendering: facts.Rendering, // unless the layout is known
		Secret: seen.secret.planState(), Held: seen.secret.held(), LastApplied: lastApplied,
	}
	if seen.layout != nil {
		in.Client, in.KeyID, in.Rendering = seen.layout.Client(), seen.layout.KeyID, seen.layout.ID()
	}
	// A moment farther ahead than any backoff was noted by a clock that has been set back since.
	next := grant.Status.NextAttemptTime
	if next != nil && !next.After(now.Add(plan.MaxBackoff)) && ptr.Deref(grant.Status.ObservedGeneration, 0) == grant.Generation {
		in.NotBefore = next.Time
	}
	return in
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
