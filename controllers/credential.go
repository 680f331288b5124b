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

// credential is what a credential Secret holds.
type credential struct {
	accessKeyID   string
	secret        token.Value
	securityToken token.Value
}

// readCredential reads the instance's credential Secret, live: no cache of this process holds one. From here on it is
// watched, so that a change takes effect at once.
func (r *InstanceReconciler) readCredential(ctx context.Context, instance *v1alpha1.MqttInstance) (credential, *problem, error) {
	if instance.Spec.Credentials.Type != v1alpha1.CredentialTypeAccessKey {
		return credential{}, credentialProblem(fmt.Sprintf("This manager does not know credentials of type %q; use AccessKey, or upgrade.", instance.Spec.Credentials.Type)), nil
	}
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
	if strings.ContainsFunc(c.accessKeyID, func(r rune) bool { return !isKeyIDRune(r) }) || len(c.accessKeyID) > 128 {
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

func isKeyIDRune(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || slices.Contains([]rune("._-"), r)
}

func credentialProblem(message string) *problem {
	return &problem{reason: v1alpha1.ReasonCredentialInvalid, message: message}
}
