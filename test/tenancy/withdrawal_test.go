package tenancy_test

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/credsecret"
)

// aboutWithdrawal would keep what the platform team takes away. What has been on record dies, whatever is done meanwhile.
func aboutWithdrawal() map[string]func(attack) {
	withdrawn := func(name string, tamper func(attack)) func(attack) {
		return func(a attack) {
			rule := v1alpha1.AccessRule{
				Namespaces: v1alpha1.RuleNamespaces{From: v1alpha1.NamespacesAll}, GroupIDs: []string{"GID_line"},
				Topics: []v1alpha1.TopicRule{{Filter: "factory/{namespace}/#", Actions: []v1alpha1.Action{v1alpha1.ActionPublish}}},
			}
			instance := a.instance(platform, "season-"+name, factory, rule)
			must(a.t, a.Create(a.t.Context(), instance))
			a.create(a.grant(home, name, func(g *v1alpha1.MqttTokenGrant) { g.Spec.InstanceRef.Name = instance.Name }))
			a.served(home, name)
			must(a.t, a.Patch(a.t.Context(), instance, client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"accessRules":[]}}`))))
			a.answeredAuthorized(name, v1alpha1.ReasonNamespaceNotAllowed)
			tamper(a)
			a.eventually("its token dies", func() string {
				if a.live("factory/"+home+"/"+name) > 0 {
					return "it is alive"
				}
				return ""
			})
		}
	}
	facts := func(name string, change func(string) string) func(attack) {
		return func(a attack) {
			a.editSecret(name, func(s *corev1.Secret) {
				s.Annotations[credsecret.FactsAnnotation] = change(s.Annotations[credsecret.FactsAnnotation])
			})
		}
	}
	return map[string]func(attack){
		"suspending the grant": withdrawn("suspend", func(a attack) {
			a.edit("suspend", func(g *v1alpha1.MqttTokenGrant) { g.Spec.Suspend = new(true) })
		}),
		"abandoning its tokens": withdrawn("abandon", func(a attack) {
			a.edit("abandon", func(g *v1alpha1.MqttTokenGrant) { g.Spec.DeletionPolicy = v1alpha1.DeletionPolicyAbandon })
			must(a.t, a.mallory.Delete(a.t.Context(), a.grant(home, "abandon")))
		}),
		"a long overlap": withdrawn("overlap", func(a attack) {
			a.edit("overlap", func(g *v1alpha1.MqttTokenGrant) { g.Spec.Suspend = new(true) })
			must(a.t, a.mallory.Delete(a.t.Context(), a.grant(home, "overlap")))
		}),
		"taking the facts away": withdrawn("strip", func(a attack) {
			a.editSecret("strip", func(s *corev1.Secret) { delete(s.Annotations, credsecret.FactsAnnotation) })
		}),
		"facts of another instance of the name": withdrawn("uid", facts("uid", func(text string) string {
			return strings.Replace(text, `"instanceUID":"`, `"instanceUID":"x`, 1)
		})),
		"facts that name no instance": withdrawn("nowhere", facts("nowhere", func(text string) string {
			return strings.Replace(text, `"instance":"`, `"instance":"x`, 1)
		})),
		"freezing the Secret": withdrawn("immutable", func(a attack) {
			a.editSecret("immutable", func(s *corev1.Secret) { s.Immutable = new(true) })
		}),
		"deleting the Secret": withdrawn("delete", func(a attack) {
			must(a.t, a.mallory.Delete(a.t.Context(), &corev1.Secret{ObjectMeta: a.grant(home, "delete").ObjectMeta}))
		}),
	}
}
