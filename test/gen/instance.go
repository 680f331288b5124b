package gen

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
)

// InstanceModifier changes an instance.
type InstanceModifier func(*v1alpha1.MqttInstance)

// Instance makes an instance whose one rule allows every client of its own namespace everything.
func Instance(name string, modifiers ...InstanceModifier) *v1alpha1.MqttInstance {
	instance := &v1alpha1.MqttInstance{
		ObjectMeta: metav1.ObjectMeta{Namespace: DefaultNamespace, Name: name, UID: types.UID("uid-" + name), Generation: 1},
		Spec: v1alpha1.MqttInstanceSpec{
			InstanceID: "post-cn-0pp12gl0001",
			RegionID:   "cn-hangzhou",
			Network:    v1alpha1.NetworkPublic,
			Broker:     v1alpha1.Broker{Ports: v1alpha1.BrokerPorts{TLS: 8883, WSS: 443, TCP: 1883}},
			Credentials: v1alpha1.Credentials{
				Type:      v1alpha1.CredentialTypeAccessKey,
				AccessKey: v1alpha1.AccessKeyCredential{SecretRef: v1alpha1.SecretReference{Name: name + "-ak"}},
			},
			AccessRules: []v1alpha1.AccessRule{Rule()},
			Quota:       v1alpha1.Quota{ApplyPerSecond: 50, QueryPerSecond: 20, RevokePerSecond: 4},
		},
	}
	for _, modify := range modifiers {
		modify(instance)
	}
	return instance
}

// WithRules replaces the access rules; none allows nothing.
func WithRules(rules ...v1alpha1.AccessRule) InstanceModifier {
	return func(i *v1alpha1.MqttInstance) { i.Spec.AccessRules = rules }
}

// WithInstanceNamespace puts the instance into a namespace.
func WithInstanceNamespace(namespace string) InstanceModifier {
	return func(i *v1alpha1.MqttInstance) { i.Namespace = namespace }
}

// Rule makes a rule that allows every client of the instance's own namespace both actions on every topic.
func Rule(modifiers ...func(*v1alpha1.AccessRule)) v1alpha1.AccessRule {
	rule := v1alpha1.AccessRule{
		Namespaces: v1alpha1.RuleNamespaces{From: v1alpha1.NamespacesSame},
		GroupIDs:   []string{"*"},
		Topics: []v1alpha1.TopicRule{{
			Filter: "#", Actions: []v1alpha1.Action{v1alpha1.ActionPublish, v1alpha1.ActionSubscribe},
		}},
	}
	for _, modify := range modifiers {
		modify(&rule)
	}
	return rule
}
