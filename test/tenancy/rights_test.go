package tenancy_test

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/test/apiserver"
	"github.com/mqtt-token-operator/mqtt-token-operator/test/cluster"
)

// freeAddress is a loopback address that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	must(t, listener.Close())
	return listener.Addr().String()
}

// servesMetricsToWhomTheAPIServerAllows asks as somebody, as nobody, and without TLS.
func (s *stage) servesMetricsToWhomTheAPIServerAllows(t *testing.T) {
	const reader, stranger = "metrics-reader", "stranger"
	namespace := cluster.ManagerAccount().Namespace
	must(t, s.Create(t.Context(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: reader},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "mqtt-token-operator-metrics-reader"},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: namespace, Name: reader}},
	}))
	// The manager's certificate is its own work.
	asked := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	for sentence, tc := range map[string]struct {
		url, token string
		want       int
	}{
		"nobody":                  {"https://" + s.metrics + "/metrics", "", http.StatusUnauthorized},
		"somebody without rights": {"https://" + s.metrics + "/metrics", s.tokenOf(t, stranger), http.StatusForbidden},
		"whoever may read them":   {"https://" + s.metrics + "/metrics", s.tokenOf(t, reader), http.StatusOK},
		"without TLS":             {"http://" + s.metrics + "/metrics", s.tokenOf(t, reader), http.StatusBadRequest},
	} {
		must(t, cluster.Eventually(t.Context(), answerWithin, func() (string, error) {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, tc.url, nil)
			if err != nil {
				return "", err
			}
			if tc.token != "" {
				request.Header.Set("Authorization", "Bearer "+tc.token)
			}
			response, err := asked.Do(request)
			if err != nil {
				return fmt.Sprintf("%s: %v", sentence, err), nil
			}
			defer func() { _ = response.Body.Close() }()
			if response.StatusCode != tc.want {
				return fmt.Sprintf("%s: %s, want %d", sentence, response.Status, tc.want), nil
			}
			return "", nil
		}))
	}
}

// tokenOf makes a service account and a token of it.
func (s *stage) tokenOf(t *testing.T, name string) string {
	t.Helper()
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: cluster.ManagerAccount().Namespace, Name: name}}
	_ = s.Create(t.Context(), account) // it may be there already
	request := &authenticationv1.TokenRequest{}
	must(t, s.SubResource("token").Create(t.Context(), account, request))
	return request.Status.Token
}

// needsEachRightThatItHas holds the shipped roles against what the manager asked for while it was attacked.
func (s *stage) needsEachRightThatItHas(t *testing.T) {
	unseen := map[string]string{
		"update mqtt.tokengrant.dev/mqtttokengrants/finalizers": "asked by the API server's own admission: an owner reference may block a deletion",
		"patch events.k8s.io/events":                            "an event that is told again",
		"patch events":                                          "an event of the lease that is told again",
	}
	asked, err := s.Asked()
	must(t, err)
	used := map[string]bool{}
	for _, a := range asked {
		right := a.Verb + " " + strings.TrimPrefix(a.Group+"/"+a.Resource, "/")
		used[right] = true
		if a.Verb == "watch" { // which lists first, unless the API server is too old for that
			used["list "+strings.TrimPrefix(a.Group+"/"+a.Resource, "/")] = true
		}
		if !a.Allowed {
			t.Errorf("the manager may not %s in namespace %q", right, a.Namespace)
		}
	}
	shipped, err := s.Kustomize(t.Context(), filepath.Join(apiserver.Root(), "config", "default"))
	must(t, err)
	held := 0
	for _, object := range cluster.OfKind(shipped, "ClusterRole", "Role") {
		if name := object.GetName(); !strings.HasPrefix(name, "mqtt-token-operator-manager") && name != "mqtt-token-operator-metrics-auth" {
			continue
		}
		var role rbacv1.ClusterRole
		must(t, runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &role))
		for _, right := range rightsOf(role.Rules) {
			held++
			if !used[right] && unseen[right] == "" {
				t.Errorf("%s %s allows the manager to %s, which it never does", object.GetKind(), object.GetName(), right)
			}
		}
	}
	if held < 20 {
		t.Errorf("only %d rights were found", held)
	}
}

func rightsOf(rules []rbacv1.PolicyRule) []string {
	var rights []string
	for _, rule := range rules {
		for _, group := range rule.APIGroups {
			for _, resource := range rule.Resources {
				for _, verb := range rule.Verbs {
					rights = append(rights, verb+" "+strings.TrimPrefix(group+"/"+resource, "/"))
				}
			}
		}
	}
	slices.Sort(rights)
	return slices.Compact(rights)
}

// worksWithoutSeeingNamespaces leaves out the one right that no Role can grant. Rules that select by labels match nothing
// then; all others do.
func (s *stage) worksWithoutSeeingNamespaces(t *testing.T) {
	system := &corev1.Namespace{}
	must(t, s.Get(t.Context(), client.ObjectKey{Name: metav1.NamespaceSystem}, system))
	must(t, s.Delete(t.Context(), &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "mqtt-token-operator-manager-cluster"}}))
	s.end()
	s.start("blind", "--cluster-id="+string(system.UID))
	must(t, s.Create(t.Context(), s.instance(platform, "open", factory, v1alpha1.AccessRule{
		Namespaces: v1alpha1.RuleNamespaces{From: v1alpha1.NamespacesAll}, GroupIDs: []string{"GID_line"},
		Topics: []v1alpha1.TopicRule{{Filter: "factory/{namespace}/#", Actions: []v1alpha1.Action{v1alpha1.ActionPublish}}},
	})))
	a := attack{stage: s, t: t}
	a.create(a.grant(home, "seen", func(g *v1alpha1.MqttTokenGrant) { g.Spec.InstanceRef.Name = "open" }))
	a.served(home, "seen")
	a.create(a.grant(home, "unseen"))
	a.answered("unseen", v1alpha1.ReasonInstanceNotReady)
}
