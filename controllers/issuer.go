package controllers

import (
	"context"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/credsecret"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/desired"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/policy"
)

// recordedIssuer names the MqttInstance that issued the tokens on a Secret's record, or nothing if that record may not be
// followed there. It is in reach of whoever may write the Secret, so it counts only for an instance of the Secret's own
// namespace, for one whose rules let that namespace in, or, when it is gone, for one whose link is still known. Whether
// that link works does not matter here: the ledger waits for it.
func recordedIssuer(ctx context.Context, reader client.Reader, connections *Connections, namespace metav1.Object, facts credsecret.Facts) (string, error) {
	key := nameOf(facts.Instance)
	if key.Namespace == "" || key.Name == "" {
		return "", nil
	}
	if key.Namespace == namespace.GetName() {
		return facts.Instance, nil
	}
	instance := &v1alpha1.MqttInstance{}
	switch err := reader.Get(ctx, key, instance); {
	case apierrors.IsNotFound(err):
		if l := connections.get(key).link; l != nil && issuedBy(facts.Client, l.instanceID) {
			return facts.Instance, nil
		}
		return "", nil
	case err != nil:
		return "", fmt.Errorf("reading MqttInstance %s: %w", key, err)
	}
	letIn := func(rule policy.Rule) bool { return rule.AppliesToNamespace }
	rules := desired.Rules(instance, namespace.GetName(), namespace.GetLabels())
	if !issuedBy(facts.Client, instance.Spec.InstanceID) || !slices.ContainsFunc(rules, letIn) {
		return "", nil
	}
	return facts.Instance, nil
}

// issuedBy reports whether a token for a client was issued by an instance.
func issuedBy(tokenClient, instanceID string) bool {
	issuer, _, found := strings.Cut(tokenClient, "/")
	return found && issuer == instanceID
}

// namespaceOf reads the metadata of a namespace from the cache. One that is not there, or that the manager may not see,
// has a name and no labels.
func namespaceOf(ctx context.Context, cache client.Reader, name string) (*metav1.PartialObjectMetadata, error) {
	namespace := &metav1.PartialObjectMetadata{}
	namespace.SetGroupVersionKind(NamespaceKind())
	if err := client.IgnoreNotFound(cache.Get(ctx, types.NamespacedName{Name: name}, namespace)); err != nil {
		return nil, fmt.Errorf("reading namespace %s: %w", name, err)
	}
	namespace.Name = name
	return namespace, nil
}
