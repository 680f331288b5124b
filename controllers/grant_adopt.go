package controllers

import (
	"context"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/credsecret"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/desired"
)

// isInherited reports whether the Secret is of the grant that this one takes over from. Both are of one namespace, so
// whoever may write the one may write the other.
func (r *GrantReconciler) isInherited(ctx context.Context, grant *v1alpha1.MqttTokenGrant, meta metav1.ObjectMeta) bool {
	predecessor := grant.Annotations[v1alpha1.TakeOverAnnotation]
	if predecessor == "" || meta.Annotations[credsecret.ClusterIDAnnotation] != r.ClusterID || meta.Annotations[credsecret.GrantUIDAnnotation] == "" {
		return false
	}
	owner := metav1.GetControllerOfNoCopy(&meta)
	named := meta.Labels[credsecret.GrantLabel] == predecessor
	return named && (owner == nil || owner.Kind == grantKind && owner.Name == predecessor) && r.mayInherit(ctx, grant)
}

// maxHops is how long a line of heirs may be.
const maxHops = 8

// mayInherit reports whether the line of those that a grant takes over from ends. Grants that take over from each other
// would hand a Secret round for ever, and none of them is anybody's heir.
func (r *GrantReconciler) mayInherit(ctx context.Context, heir *v1alpha1.MqttTokenGrant) bool {
	name := heir.Annotations[v1alpha1.TakeOverAnnotation]
	for range maxHops {
		if name == heir.Name {
			return false
		}
		predecessor := &v1alpha1.MqttTokenGrant{}
		if err := r.Get(ctx, client.ObjectKey{Namespace: heir.Namespace, Name: name}, predecessor); err != nil {
			return apierrors.IsNotFound(err)
		}
		if name = predecessor.Annotations[v1alpha1.TakeOverAnnotation]; name == "" {
			return true
		}
	}
	return false
}

// adopt makes the Secret of another grant this one's, tokens and all, in one write that fails if anybody else wrote in
// between. Nothing is applied for; the next pass brings the rest up to date.
func (r *GrantReconciler) adopt(ctx context.Context, seen observation, out outcome) outcome {
	if out.err = r.ensureFinalizer(ctx, seen.grant); out.err != nil {
		return out
	}
	facts := seen.secret.facts
	if r.isDoomed(seen.secret.uid, seen.secret.held()) {
		facts.Scope = "" // what the predecessor's page revokes cannot stay: the next pass has it replaced
	}
	facts.Tokens, facts.Retired = seen.secret.record.Describe(string(seen.grant.UID))
	text, err := facts.Encode()
	if err != nil {
		out.err = err
		return out
	}
	secret := &metav1.PartialObjectMetadata{ObjectMeta: *seen.secret.meta.DeepCopy()}
	secret.SetGroupVersionKind(secretKind())
	before := secret.DeepCopy()
	secret.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(seen.grant, v1alpha1.GroupVersion().WithKind(grantKind))}
	secret.Labels[credsecret.GrantLabel] = seen.grant.Name
	secret.Annotations[credsecret.FactsAnnotation] = text
	secret.Annotations[credsecret.GrantUIDAnnotation] = string(seen.grant.UID)
	// The fields change hands with the Secret: what the predecessor's writes own would otherwise be there for ever.
	former := managerOf(seen.secret.uid)
	for i := range secret.ManagedFields {
		if secret.ManagedFields[i].Manager == former {
			secret.ManagedFields[i].Manager = fieldManager(seen.grant)
		}
	}
	if err := r.Patch(ctx, secret, onlyIfUnchanged(before), client.FieldOwner(fieldManager(seen.grant))); err != nil {
		out.err = fmt.Errorf("taking over Secret %s: %w", secretKey(seen.grant), err)
		return out
	}
	r.recent.note(seen.grant, func(g *recentGrant) { g.secretVersion = secret.ResourceVersion })
	out.event, out.quiet = adoptedEvent(), true // the Secret's new owner is looked at next
	return out
}

// heirIndex finds the grants that are to take over from a grant, by its name.
const heirIndex = "heir"

func heirKeys(object client.Object) []string {
	if name := object.GetAnnotations()[v1alpha1.TakeOverAnnotation]; name != "" {
		return []string{name}
	}
	return nil
}

// hasHeir reports whether another grant is about to adopt the Secret of one in deletion, so that nothing in it may be
// revoked. The heir's write, or its absence at the deadline, ends the wait.
func (r *GrantReconciler) hasHeir(ctx context.Context, grant *v1alpha1.MqttTokenGrant) (bool, error) {
	var heirs v1alpha1.MqttTokenGrantList
	if err := r.List(ctx, &heirs, client.InNamespace(grant.Namespace), client.MatchingFields{heirIndex: grant.Name}); err != nil {
		return false, fmt.Errorf("looking for an heir: %w", err)
	}
	return slices.ContainsFunc(heirs.Items, func(heir v1alpha1.MqttTokenGrant) bool {
		return heir.UID != grant.UID && heir.DeletionTimestamp.IsZero() && desired.SecretName(&heir) == desired.SecretName(grant) &&
			r.mayInherit(ctx, &heir)
	}), nil
}
