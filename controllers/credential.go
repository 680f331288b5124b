package controllers

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
)

// Keys of a credential Secret.
const (
	credentialKeyID    = "accessKeyID"
	credentialSecret   = "accessKeySecret"
	credentialSecurity = "securityToken"
)

// credential is who speaks for an instance; an AccessKey comes from its Secret.
type credential struct {
	identity      token.Identity
	accessKeyID   string
	secret        token.Value
	securityToken token.Value
}

// credentialOf is who speaks for the instance. The AccessKey is read live: no cache of this process holds one. From here on
// its Secret is watched, so that a change takes effect at once.
func (r *InstanceReconciler) credentialOf(ctx context.Context, instance *v1alpha1.MqttInstance) (credential, *problem, error) {
	if p := r.identityProblem(instance); p != nil {
		return credential{}, p, nil
	}
	identity := identityOf(instance.Spec.Credentials)
	if instance.Spec.Credentials.Type != v1alpha1.CredentialTypeAccessKey {
		r.Credentials.Stop(client.ObjectKeyFromObject(instance)) // it may have been one before
		return credential{identity: identity}, nil, nil
	}
	c, p, err := r.readAccessKey(ctx, instance)
	c.identity = identity
	return c, p, err
}

// identityProblem keeps the manager's own identity from whoever may write an MqttInstance somewhere.
func (r *InstanceReconciler) identityProblem(instance *v1alpha1.MqttInstance) *problem {
	kind := instance.Spec.Credentials.Type
	if kind == v1alpha1.CredentialTypeAccessKey || slices.Contains(r.IdentityNamespaces, instance.Namespace) {
		return nil
	}
	return &problem{
		reason: v1alpha1.ReasonIdentityNotAllowed, stalled: true,
		message: fmt.Sprintf("Credentials of type %s are the manager's own, which it does not lend to this namespace. Use AccessKey, or start the manager with --manager-identity-namespaces=%s.", kind, instance.Namespace),
	}
}

func identityOf(spec v1alpha1.Credentials) token.Identity {
	identity := token.Identity{
		RoleARN: spec.RRSA.RoleARN, OIDCProviderARN: spec.RRSA.OIDCProviderARN, RoleName: spec.ECSRAMRole.RoleName,
		Assume: token.AssumedRole{RoleARN: spec.AssumeRole.RoleARN, ExternalID: token.NewValue(spec.AssumeRole.ExternalID)},
	}
	switch spec.Type {
	case v1alpha1.CredentialTypeRRSA:
		identity.Type = token.IdentityRRSA
	case v1alpha1.CredentialTypeECSRAMRole:
		identity.Type = token.IdentityECSRAMRole
	case v1alpha1.CredentialTypeAmbient:
		identity.Type = token.IdentityAmbient
	case v1alpha1.CredentialTypeAccessKey:
	}
	return identity
}

// readAccessKey reads the instance's credential Secret.
func (r *InstanceReconciler) readAccessKey(ctx context.Context, instance *v1alpha1.MqttInstance) (credential, *problem, error) {
	key := types.NamespacedName{Namespace: instance.Namespace, Name: instance.Spec.Credentials.AccessKey.SecretRef.Name}
	r.Credentials.Ensure(ctx, client.ObjectKeyFromObject(instance), key)
	secret := &corev1.Secret{}
	switch err := r.Live.Get(ctx, key, secret); {
	case apierrors.IsNotFound(err):
		return credential{}, &problem{
			reason:  v1alpha1.ReasonCredentialNotFound,
			message: fmt.Sprintf("Secret %q does not exist in this namespace. Create it with the keys %s and %s.", key.Name, credentialKeyID, credentialSecret),
		}, nil
	case apierrors.IsForbidden(err):
		return credential{}, &problem{
			reason: v1alpha1.ReasonCredentialNotFound, cause: err,
			message: fmt.Sprintf("The manager may not read Secret %q. Extend its Role in this namespace.", key.Name),
		}, nil
	case err != nil:
		return credential{}, nil, fmt.Errorf("reading credential Secret %s: %w", key, err)
	}
	return parseCredential(secret, instance.Spec.ClientAccessKeyID)
}

// parseCredential takes what a person wrote: white space at the ends is theirs, not the key's.
func parseCredential(secret *corev1.Secret, clientKeyID string) (credential, *problem, error) {
	for _, key := range []string{credentialKeyID, credentialSecret} {
		if strings.TrimSpace(string(secret.Data[key])) == "" {
			return credential{}, credentialProblem(fmt.Sprintf("Secret %q lacks the key %s, or it is empty.", secret.Name, key)), nil
		}
	}
	value := func(key string) token.Value { return token.NewValue(strings.TrimSpace(string(secret.Data[key]))) }
	c := credential{accessKeyID: strings.TrimSpace(string(secret.Data[credentialKeyID])), secret: value(credentialSecret)}
	if !isKeyID(c.accessKeyID) {
		return credential{}, credentialProblem(fmt.Sprintf("The %s in Secret %q is not an AccessKey id; are the keys swapped?", credentialKeyID, secret.Name)), nil
	}
	if _, temporary := secret.Data[credentialSecurity]; temporary {
		c.securityToken = value(credentialSecurity)
	}
	if clientKeyID == "" && (!c.securityToken.IsZero() || strings.HasPrefix(c.accessKeyID, "STS.")) {
		return credential{}, credentialProblem("The credential is temporary, so its AccessKey id cannot stand in the clients' username. Set spec.clientAccessKeyID to a lasting one of the same account."), nil
	}
	return c, nil, nil
}

// isKeyID reports whether a text can be an AccessKey id.
func isKeyID(text string) bool {
	return text != "" && len(text) <= 128 && !strings.ContainsFunc(text, func(r rune) bool { return !isKeyIDRune(r) })
}

func isKeyIDRune(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || slices.Contains([]rune("._-"), r)
}

func credentialProblem(message string) *problem {
	return &problem{reason: v1alpha1.ReasonCredentialInvalid, message: message}
}
