// Package gen makes valid API objects for tests, with the defaults that the API server would fill in. Modifiers change
// what a test is about.
package gen

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
)

// DefaultNamespace is where objects are unless a modifier says otherwise.
const DefaultNamespace = "line-a"

// GrantModifier changes a grant.
type GrantModifier func(*v1alpha1.MqttTokenGrant)

// Grant makes a grant for the client GID_line_a@@@<name>, which publishes and subscribes to one topic of the instance
// factory in its own namespace.
func Grant(name string, modifiers ...GrantModifier) *v1alpha1.MqttTokenGrant {
	grant := &v1alpha1.MqttTokenGrant{
		ObjectMeta: metav1.ObjectMeta{Namespace: DefaultNamespace, Name: name, UID: types.UID("uid-" + name), Generation: 1},
		Spec: v1alpha1.MqttTokenGrantSpec{
			InstanceRef: v1alpha1.InstanceReference{Name: "factory"},
			Client:      v1alpha1.Client{GroupID: "GID_line_a", DeviceID: name},
			Topics: []v1alpha1.TopicPermission{{
				Filter: "factory/line-a/state", Actions: []v1alpha1.Action{v1alpha1.ActionPublish, v1alpha1.ActionSubscribe},
			}},
			Validity:       "24h",
			Overlap:        "5m",
			Secret:         v1alpha1.TokenSecret{Format: v1alpha1.SecretFormatFiles},
			DeletionPolicy: v1alpha1.DeletionPolicyRevoke,
		},
	}
	for _, modify := range modifiers {
		modify(grant)
	}
	return grant
}

// InNamespace puts the grant into a namespace.
func InNamespace(namespace string) GrantModifier {
	return func(g *v1alpha1.MqttTokenGrant) { g.Namespace = namespace }
}

// WithInstance names the instance; the namespace may be empty.
func WithInstance(namespace, name string) GrantModifier {
	return func(g *v1alpha1.MqttTokenGrant) {
		g.Spec.InstanceRef = v1alpha1.InstanceReference{Namespace: namespace, Name: name}
	}
}

// WithClient replaces the client; an empty device id makes it a grant for the group.
func WithClient(groupID, deviceID string) GrantModifier {
	return func(g *v1alpha1.MqttTokenGrant) {
		g.Spec.Client = v1alpha1.Client{GroupID: groupID, DeviceID: deviceID}
	}
}

// WithTopics replaces the topics.
func WithTopics(topics ...v1alpha1.TopicPermission) GrantModifier {
	return func(g *v1alpha1.MqttTokenGrant) { g.Spec.Topics = topics }
}

// Topic is one topic filter and what the client may do with it.
func Topic(filter string, actions ...v1alpha1.Action) v1alpha1.TopicPermission {
	return v1alpha1.TopicPermission{Filter: filter, Actions: actions}
}

// WithValidity sets the validity.
func WithValidity(validity string) GrantModifier {
	return func(g *v1alpha1.MqttTokenGrant) { g.Spec.Validity = validity }
}

// WithOverlap sets the overlap.
func WithOverlap(overlap string) GrantModifier {
	return func(g *v1alpha1.MqttTokenGrant) { g.Spec.Overlap = overlap }
}

// WithRenewBefore sets the explicit renewBefore.
func WithRenewBefore(renewBefore string) GrantModifier {
	return func(g *v1alpha1.MqttTokenGrant) { g.Spec.RenewBefore = renewBefore }
}

// WithRenewBeforePercentage sets renewBefore as a share of the validity.
func WithRenewBeforePercentage(percentage int32) GrantModifier {
	return func(g *v1alpha1.MqttTokenGrant) { g.Spec.RenewBeforePercentage = percentage }
}

// WithSecretName names the token Secret.
func WithSecretName(name string) GrantModifier {
	return func(g *v1alpha1.MqttTokenGrant) { g.Spec.Secret.Name = name }
}

// Deleted marks the grant as being deleted, with the finalizer that an object needs for that.
func Deleted(at time.Time) GrantModifier {
	return func(g *v1alpha1.MqttTokenGrant) {
		g.DeletionTimestamp, g.Finalizers = &metav1.Time{Time: at}, []string{v1alpha1.GrantFinalizer}
	}
}
