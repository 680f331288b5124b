package tenancy_test

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/test/cluster"
)

// aboutInstances is what a team can try that was trusted with instances of its own, in its own namespace.
func aboutInstances() map[string]func(attack) {
	refused := func(name, reason string, change func(attack, *v1alpha1.MqttInstance)) func(attack) {
		return func(a attack) {
			a.trust()
			i := a.instance(home, name, factory)
			change(a, i)
			a.create(i)
			a.eventually("an answer of "+reason, func() string {
				must(a.t, a.Get(a.t.Context(), client.ObjectKeyFromObject(i), i))
				ready := apimeta.FindStatusCondition(i.Status.Conditions, v1alpha1.ReadyCondition)
				if ready == nil || ready.Status != metav1.ConditionFalse || ready.Reason != reason {
					return fmt.Sprintf("%+v", i.Status.Conditions)
				}
				return ""
			})
		}
	}
	return map[string]func(attack){
		"calls to a server of its own": refused("own-server", v1alpha1.ReasonEndpointNotAllowed, func(a attack, i *v1alpha1.MqttInstance) {
			i.Spec.Endpoint, i.Spec.CABundle = a.decoy.Listener.Addr().String(), ""
		}),
		"calls to a server of its own, with its own certificate": refused("own-ca", v1alpha1.ReasonEndpointNotAllowed, func(a attack, i *v1alpha1.MqttInstance) {
			i.Spec.Endpoint = a.decoy.Listener.Addr().String()
		}),
		"its own certificate for the service's name": refused("ca", v1alpha1.ReasonEndpointNotAllowed, func(_ attack, i *v1alpha1.MqttInstance) {
			i.Spec.Endpoint = "onsmqtt.cn-hangzhou.aliyuncs.com"
		}),
		"calls to a host that looks like the service's": refused("alike", v1alpha1.ReasonEndpointNotAllowed, func(_ attack, i *v1alpha1.MqttInstance) {
			i.Spec.Endpoint, i.Spec.CABundle = "onsmqtt.bucket.oss-cn-hangzhou.aliyuncs.com", ""
		}),
		"a credential that only the platform has": refused("credential", v1alpha1.ReasonCredentialNotFound, func(_ attack, _ *v1alpha1.MqttInstance) {}),
		"the platform's instance, by a guess at its key": refused("guess", v1alpha1.ReasonCredentialRefused, func(a attack, i *v1alpha1.MqttInstance) {
			a.create(&corev1.Secret{
				ObjectMeta: metav1.ObjectMeta{Namespace: home, Name: "guess"},
				StringData: map[string]string{"accessKeyID": keyID, "accessKeySecret": "a guess"},
			})
			i.Spec.Credentials.AccessKey.SecretRef.Name = "guess"
		}),
		"the manager's own identity": refused("identity", v1alpha1.ReasonIdentityNotAllowed, func(_ attack, i *v1alpha1.MqttInstance) {
			i.Spec.Credentials, i.Spec.ClientAccessKeyID = v1alpha1.Credentials{Type: v1alpha1.CredentialTypeRRSA}, keyID
		}),
		"the manager's own identity, whatever it is": refused("ambient", v1alpha1.ReasonIdentityNotAllowed, func(_ attack, i *v1alpha1.MqttInstance) {
			i.Spec.Credentials, i.Spec.ClientAccessKeyID = v1alpha1.Credentials{Type: v1alpha1.CredentialTypeAmbient}, keyID
		}),
		"the identity of the manager's machine": refused("machine", v1alpha1.ReasonIdentityNotAllowed, func(_ attack, i *v1alpha1.MqttInstance) {
			i.Spec.Credentials, i.Spec.ClientAccessKeyID = v1alpha1.Credentials{Type: v1alpha1.CredentialTypeECSRAMRole}, keyID
		}),
		"a credential of another namespace": func(a attack) {
			a.trust()
			i := a.instance(home, "path", factory)
			i.Spec.Credentials.AccessKey.SecretRef.Name = "../" + platform + "/ak"
			if err := a.mallory.Create(a.t.Context(), i); !apierrors.IsInvalid(err) {
				a.t.Errorf("want a refusal, got: %v", err)
			}
		},
		"plain HTTP": func(a attack) {
			a.trust()
			i := a.instance(home, "plain", factory)
			i.Spec.Endpoint = "http://" + strings.TrimPrefix(a.cloud.APIAddress(), "https://")
			if err := a.mallory.Create(a.t.Context(), i); !apierrors.IsInvalid(err) {
				a.t.Errorf("want a refusal, got: %v", err)
			}
		},
		"the client ids of the platform's instance, by one of the same id": func(a attack) {
			a.trust()
			a.create(a.instance(home, "bogus", factory, v1alpha1.AccessRule{
				Namespaces: v1alpha1.RuleNamespaces{From: v1alpha1.NamespacesSame}, GroupIDs: []string{"GID_hall"},
				Topics: []v1alpha1.TopicRule{{Filter: "hall/#", Actions: []v1alpha1.Action{v1alpha1.ActionPublish}}},
			}))
			a.create(a.grant(home, "bogus", hall("press-9"), func(g *v1alpha1.MqttTokenGrant) { g.Spec.InstanceRef = v1alpha1.InstanceReference{Name: "bogus"} }))
			a.answered("bogus", v1alpha1.ReasonInstanceNotReady)
			must(a.t, a.Create(a.t.Context(), a.grant(victim, "hall-9", hall("press-9"))))
			a.served(victim, "hall-9")
		},
	}
}

// trust lets the attacker write instances in its own namespace.
func (a attack) trust() {
	a.t.Helper()
	binding := &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Namespace: home, Name: "instances"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "mqtt-token-operator-instance-admin"},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: attacker}},
	}
	if err := a.Create(a.t.Context(), binding); !apierrors.IsAlreadyExists(err) {
		must(a.t, err)
	}
	must(a.t, cluster.Eventually(a.t.Context(), answerWithin, func() (string, error) {
		err := a.mallory.Create(a.t.Context(), a.instance(home, "anything", factory), client.DryRunAll)
		if apierrors.IsForbidden(err) {
			return err.Error(), nil
		}
		return "", err
	}))
}
