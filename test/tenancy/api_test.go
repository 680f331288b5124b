package tenancy_test

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/controllers"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/credsecret"
	"github.com/mqtt-token-operator/mqtt-token-operator/test/cluster"
)

// refusedByTheAPI never reaches the operator: the API server says what to change.
func refusedByTheAPI() map[string]func(attack) {
	refused := func(want string, change func(*v1alpha1.MqttTokenGrant)) func(attack) {
		return func(a attack) {
			err := a.mallory.Create(a.t.Context(), a.grant(home, "refused", change))
			if !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), want) {
				a.t.Errorf("want a refusal with %q, got: %v", want, err)
			}
		}
	}
	topic := func(filter string) func(*v1alpha1.MqttTokenGrant) {
		return func(g *v1alpha1.MqttTokenGrant) { g.Spec.Topics[0].Filter = filter }
	}
	attacks := map[string]func(attack){
		"a comma smuggles a second topic in":    refused("','", topic("factory/team-a/x,factory/team-b/#")),
		"a bar smuggles a second token in":      refused("'|'", topic("factory/team-a/x|RW")),
		"a line break smuggles a parameter in":  refused("control characters", topic("factory/team-a/x\n&Actions=R,W")),
		"a topic of the broker's own":           refused("'$'", topic("$SYS/uploadToken")),
		"a wildcard in the middle":              refused("'#'", topic("factory/#/team-a")),
		"a wildcard inside a level":             refused("'+'", topic("factory/team-+/x")),
		"a topic longer than the service takes": refused("64", topic("factory/team-a/"+strings.Repeat("x", 64))),
		"a validity that never ends":            refused("validity", func(g *v1alpha1.MqttTokenGrant) { g.Spec.Validity = "8760h" }),
		"a device id that ends in another's":    refused("deviceID", func(g *v1alpha1.MqttTokenGrant) { g.Spec.Client.DeviceID = "x@@@team-b-press" }),
		"a group id that is none":               refused("groupID", func(g *v1alpha1.MqttTokenGrant) { g.Spec.Client.GroupID = "line" }),
		"a client id that the broker would cut": refused("57", func(g *v1alpha1.MqttTokenGrant) { g.Spec.Client.DeviceID = "team-a-" + strings.Repeat("x", 60) }),
		"a label that the operator goes by": refused("mqtt.tokengrant.dev", func(g *v1alpha1.MqttTokenGrant) {
			g.Spec.Secret.Labels = map[string]string{credsecret.GrantLabel: "press"}
		}),
		"an annotation that the operator goes by": refused("mqtt.tokengrant.dev", func(g *v1alpha1.MqttTokenGrant) {
			g.Spec.Secret.Annotations = map[string]string{credsecret.FactsAnnotation: "{}"}
		}),
		"a name that its label would cut": refused("63", func(g *v1alpha1.MqttTokenGrant) { g.Name = "x" + strings.Repeat("y", 63) }),
		"more topics than a request can hold": refused("topics", func(g *v1alpha1.MqttTokenGrant) {
			for n := range 300 {
				g.Spec.Topics = append(g.Spec.Topics, v1alpha1.TopicPermission{Filter: fmt.Sprintf("factory/team-a/%d", n), Actions: g.Spec.Topics[0].Actions})
			}
		}),
	}
	attacks["the Secret is renamed, to leave the old one behind"] = func(a attack) {
		a.create(a.grant(home, "renamed"))
		a.served(home, "renamed")
		g := a.grant(home, "renamed")
		must(a.t, a.mallory.Get(a.t.Context(), client.ObjectKeyFromObject(g), g))
		g.Spec.Secret.Name = "another"
		if err := a.mallory.Update(a.t.Context(), g); !apierrors.IsInvalid(err) {
			a.t.Errorf("want a refusal, got: %v", err)
		}
	}
	return attacks
}

// refusedByTheAuthorizer is beyond what `edit` in a namespace allows.
func refusedByTheAuthorizer() map[string]func(attack) {
	forbidden := func(try func(attack) error) func(attack) {
		return func(a attack) {
			if err := try(a); !apierrors.IsForbidden(err) {
				a.t.Errorf("want Forbidden, got: %v", err)
			}
		}
	}
	system := cluster.ManagerAccount().Namespace
	return map[string]func(attack){
		"an instance of its own": forbidden(func(a attack) error { return a.mallory.Create(a.t.Context(), a.instance(home, "mine", factory)) }),
		"the platform's rules": forbidden(func(a attack) error {
			return a.patch(a.instance(platform, "factory", factory), "", `{"spec":{"accessRules":[]}}`)
		}),
		"the platform's instances": forbidden(func(a attack) error {
			return a.mallory.List(a.t.Context(), &v1alpha1.MqttInstanceList{}, client.InNamespace(platform))
		}),
		"the platform's AccessKey": forbidden(func(a attack) error {
			return a.mallory.Get(a.t.Context(), client.ObjectKey{Namespace: platform, Name: "ak"}, &corev1.Secret{})
		}),
		"the ledger of tokens to revoke": forbidden(func(a attack) error {
			return a.mallory.List(a.t.Context(), &corev1.SecretList{}, client.InNamespace(system))
		}),
		"the other team's token": forbidden(func(a attack) error {
			return a.mallory.Get(a.t.Context(), client.ObjectKey{Namespace: victim, Name: "press"}, &corev1.Secret{})
		}),
		"the other team's grant": forbidden(func(a attack) error { return a.mallory.Delete(a.t.Context(), a.grant(victim, "press")) }),
		"a status that says it was allowed": forbidden(func(a attack) error {
			return a.patch(a.grant(home, "nothing"), "status", `{"status":{"clientID":"GID_line@@@team-b-press"}}`)
		}),
		"the finalizers' subresource": forbidden(func(a attack) error {
			return a.patch(a.grant(home, "nothing"), "finalizers", `{"metadata":{"finalizers":null}}`)
		}),
		"the namespace's labels, which rules go by": forbidden(func(a attack) error {
			return a.patch(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: home}}, "", `{"metadata":{"labels":{"mqtt":"team-b"}}}`)
		}),
		"the manager's own rights, by binding its role": forbidden(func(a attack) error {
			return a.mallory.Create(a.t.Context(), &rbacv1.RoleBinding{
				ObjectMeta: metav1.ObjectMeta{Namespace: home, Name: controllers.RoleBindingName},
				RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "mqtt-token-operator-manager"},
				Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: attacker}},
			})
		}),
	}
}

// patch changes an object, or a subresource of it, as the attacker.
func (a attack) patch(object client.Object, subresource, body string) error {
	patch := client.RawPatch("application/merge-patch+json", []byte(body))
	if subresource == "" {
		return a.mallory.Patch(a.t.Context(), object, patch)
	}
	return a.mallory.SubResource(subresource).Patch(a.t.Context(), object, patch)
}
