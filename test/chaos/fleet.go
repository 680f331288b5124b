package main

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
)

// The fleet: an account with two instances, and clients in three namespaces.
const (
	account         = "chaos"
	keyID           = "LTAI-chaos-key-id"
	keySecret       = "chaos-secret-that-no-log-may-hold"
	credential      = "account-ak"
	platform        = "mqtt-system"
	managerHome     = "mqtt-token-system"
	grantsEach      = 20
	clientsEach     = 1
	group           = "GID_chaos"
	region          = "cn-hangzhou"
	envEvery        = 5
	twoTypesEvery   = 3
	secondInstance  = "yard"
	firstInstance   = "factory"
	shortestSeconds = 150
)

func namespaces() []string { return []string{"line-a", "line-b", "line-c"} }

func instanceNames() []string { return []string{firstInstance, secondInstance} }

func instanceID(name string) string { return "post-cn-" + name }

// grantKeys lists the fleet. The first grants of each namespace belong to the connected clients.
func grantKeys() []types.NamespacedName {
	var keys []types.NamespacedName
	for _, namespace := range namespaces() {
		for i := range grantsEach {
			keys = append(keys, types.NamespacedName{Namespace: namespace, Name: fmt.Sprintf("press-%02d", i)})
		}
	}
	return keys
}

// isClient tells the grants of the connected clients: nobody edits or deletes them.
func isClient(key types.NamespacedName) bool {
	var i int
	_, err := fmt.Sscanf(key.Name, "press-%02d", &i)
	return err == nil && i < clientsEach && key.Namespace != "line-c"
}

// targets lists the grants that faults may hit.
func targets() []types.NamespacedName {
	var keys []types.NamespacedName
	for _, key := range grantKeys() {
		if !isClient(key) {
			keys = append(keys, key)
		}
	}
	return keys
}

// prefix is where the topics of a grant are, and of no other.
func prefix(key types.NamespacedName) string { return key.Namespace + "/" + key.Name + "/" }

// newGrant makes the nth grant of the fleet.
func newGrant(key types.NamespacedName, n int) *v1alpha1.MqttTokenGrant {
	grant := &v1alpha1.MqttTokenGrant{
		ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name},
		Spec: v1alpha1.MqttTokenGrantSpec{
			InstanceRef: v1alpha1.InstanceReference{Namespace: platform, Name: instanceNames()[n%len(instanceNames())]},
			Client:      v1alpha1.Client{GroupID: group, DeviceID: key.Namespace + "-" + key.Name},
			Topics: []v1alpha1.TopicPermission{
				{Filter: prefix(key) + "state", Actions: []v1alpha1.Action{v1alpha1.ActionPublish}},
			},
			Validity:              fmt.Sprintf("%ds", shortestSeconds+n*37%90),
			RenewBeforePercentage: int32(60 + n*7%16),
			Overlap:               fmt.Sprintf("%ds", 5+n*3%16),
		},
	}
	if n%twoTypesEvery == 0 || isClient(key) {
		grant.Spec.Topics = append(grant.Spec.Topics,
			v1alpha1.TopicPermission{Filter: prefix(key) + "commands", Actions: []v1alpha1.Action{v1alpha1.ActionSubscribe}})
	}
	if n%envEvery == 1 && !isClient(key) {
		grant.Spec.Secret.Format = v1alpha1.SecretFormatEnv
	}
	return grant
}

func newNamespace(name string) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"mqtt": account}}}
}

func newCredential() *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: platform, Name: credential},
		StringData: map[string]string{"accessKeyID": keyID, "accessKeySecret": keySecret},
	}
}

// newInstance makes an instance whose rule lets each namespace have what is below its own name.
func newInstance(name, endpoint, ca string, broker v1alpha1.Broker) *v1alpha1.MqttInstance {
	return &v1alpha1.MqttInstance{
		ObjectMeta: metav1.ObjectMeta{Namespace: platform, Name: name},
		Spec: v1alpha1.MqttInstanceSpec{
			InstanceID: instanceID(name), RegionID: region, Endpoint: endpoint, CABundle: ca, Broker: broker,
			Credentials: v1alpha1.Credentials{
				Type:      v1alpha1.CredentialTypeAccessKey,
				AccessKey: v1alpha1.AccessKeyCredential{SecretRef: v1alpha1.SecretReference{Name: credential}},
			},
			AccessRules: []v1alpha1.AccessRule{{
				Namespaces: v1alpha1.RuleNamespaces{From: v1alpha1.NamespacesSelector, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"mqtt": account}}},
				GroupIDs:   []string{group}, DeviceIDs: []string{"{namespace}-*"},
				Topics: []v1alpha1.TopicRule{{
					Filter: "{namespace}/#", Actions: []v1alpha1.Action{v1alpha1.ActionPublish, v1alpha1.ActionSubscribe},
				}},
				MaxValidity: "24h",
			}},
		},
	}
}
