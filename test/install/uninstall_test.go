package install_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/credsecret"
	"github.com/mqtt-token-operator/mqtt-token-operator/test/apiserver"
	"github.com/mqtt-token-operator/mqtt-token-operator/test/cluster"
)

// What hack/uninstall.sh ends with.
const (
	done           = 0
	notForThis     = 2
	notYetRevoked  = 3
	waitsForAnyone = 4
)

// TestUninstalling takes the operator away in the right and in the wrong order, again and again from the same cluster:
// each leaves it as it was before.
func TestUninstalling(t *testing.T) {
	shared := newStage(t)
	for _, tc := range []struct {
		sentence string
		play     func(s *stage, stop func())
	}{
		{"in the right order", func(s *stage, _ func()) {
			before := s.alive()
			s.uninstall(done)
			if said := s.uninstall(notForThis, "--yes", "--namespace", "elsewhere"); !strings.Contains(said, "mqtt-token-system/mqtt-token-operator-manager") {
				s.t.Error("it does not say where the manager is")
			}
			s.says("nothing was changed", before, s.alive())
			s.uninstall(done, "--yes")
			s.says("no token is alive", nil, s.alive())
		}},
		{"while the service is down", func(s *stage, _ func()) {
			before := s.alive()
			s.goDown()
			s.says("what is alive, and until when", before, ends(s.uninstall(notYetRevoked, "--yes", "--wait", "25")))
			s.comeBack()
			s.uninstall(done, "--yes")
			s.says("no token is alive", nil, s.alive())
		}},
		{"while the service is down, and the API server does not answer once", func(s *stage, _ func()) {
			before := s.alive()
			s.goDown()
			s.failOnce("type=mqtt.tokengrant.dev/ledger", 3)
			s.says("what is alive, and until when", before, ends(s.uninstall(notYetRevoked, "--yes", "--wait", "25")))
			s.comeBack()
			s.uninstall(done, "--yes")
			s.says("no token is alive", nil, s.alive())
		}},
		{"while the service is down, and nobody wants to wait", func(s *stage, _ func()) {
			before := s.alive()
			s.goDown()
			said := s.uninstall(done, "--yes", "--wait", "25", "--leave-live")
			s.says("what stays alive, and until when", before, ends(said))
			s.says("it was said what stays alive", before, s.alive())
			s.comeBack()
		}},
		{"with a grant that abandons its tokens", func(s *stage, _ func()) {
			s.kubectl("patch", "mtg", "press-1", "-n", home, "--type=merge", "-p", `{"spec":{"deletionPolicy":"Abandon"}}`)
			if said := s.uninstall(done); !strings.Contains(said, "Abandon") || !strings.Contains(said, "\n  "+home+"/press-1\n") || strings.Contains(said, "\n  "+home+"/press-2\n") {
				s.t.Error("it does not say what is left to expire")
			}
			s.uninstall(done, "--yes")
			if alive := s.alive(); len(alive) != 2 {
				s.t.Errorf("%d tokens are alive, want the two of the grant that abandons them", len(alive))
			}
		}},
		{"the manager first, and it does not come back", func(s *stage, stop func()) {
			s.bind()
			before := s.alive()
			stop()
			s.kubectl("delete", "deployment", "-n", "mqtt-token-system", "mqtt-token-operator-manager")
			said := s.uninstall(waitsForAnyone, "--yes")
			s.says("what stays alive, and until when", before, ends(said))
			s.letGo(said)
			s.uninstall(done, "--yes")
			s.says("it was said what stays alive", before, s.alive())
		}},
		{"the kinds first", func(s *stage, _ func()) {
			s.kubectl("delete", "crd", "--wait=false", "mqtttokengrants.mqtt.tokengrant.dev", "mqttinstances.mqtt.tokengrant.dev")
			s.uninstall(done, "--yes")
			s.says("no token is alive", nil, s.alive())
		}},
		{"the manager and then the kinds, and the manager is put back", func(s *stage, stop func()) {
			before := s.alive()
			stop()
			s.kubectl("delete", "deployment", "-n", "mqtt-token-system", "mqtt-token-operator-manager")
			s.kubectl("delete", "crd", "--wait=false", "mqtttokengrants.mqtt.tokengrant.dev", "mqttinstances.mqtt.tokengrant.dev")
			s.says("what stays alive, and until when", before, ends(s.uninstall(waitsForAnyone, "--yes")))
			s.start()
			s.uninstall(done, "--yes")
			s.says("no token is alive", nil, s.alive())
		}},
		{"the manager's namespace first, and it is installed again", func(s *stage, stop func()) {
			before := s.alive()
			s.kubectl("delete", "namespace", "mqtt-token-system")
			stop()
			s.says("what stays alive, and until when", before, ends(s.uninstall(waitsForAnyone, "--yes")))
			s.install(s.shipped)
			s.start()
			s.uninstall(done, "--yes")
			s.says("no token is alive", nil, s.alive())
		}},
	} {
		t.Run(tc.sentence, func(t *testing.T) {
			s := shared.of(t)
			s.install(s.shipped)
			for _, left := range s.cloud.State().Tokens() { // by a scenario before
				s.cloud.State().RevokeByID(left.ID)
			}
			stop := s.start()
			s.declare()
			tc.play(s, stop)
			s.nothingIsLeft()
		})
	}
}

// failOnce has kubectl fail in the scripts of this test, at the nth call with such an argument.
func (s *stage) failOnce(argument string, n int) {
	s.t.Helper()
	folder := s.t.TempDir()
	script := fmt.Sprintf(`#!/bin/sh
case "$*" in *%[1]s*)
  echo >> %[2]s/calls
  if [ "$(wc -l < %[2]s/calls)" -eq %[3]d ]; then echo "the server could not be reached" >&2; exit 1; fi ;;
esac
exec %[4]s "$@"
`, argument, folder, n, s.Kubectl)
	must(s.t, os.WriteFile(filepath.Join(folder, "kubectl"), []byte(script), 0o700))
	s.path = folder + ":"
}

// bind gives a manager that serves some namespaces only its rights in one: it keeps them until it has revoked.
func (s *stage) bind() {
	s.t.Helper()
	account := cluster.ManagerAccount()
	s.create(&rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Namespace: home, Name: account.Name, Finalizers: []string{v1alpha1.GrantFinalizer}},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: account.Name},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: account.Namespace, Name: account.Name}},
	})
}

// uninstall runs the script and returns what it said.
func (s *stage) uninstall(want int, arguments ...string) string {
	s.t.Helper()
	said, code := s.bash(append([]string{filepath.Join(apiserver.Root(), "hack", "uninstall.sh")}, arguments...)...)
	if code != want {
		s.t.Fatalf("it ended with %d, want %d", code, want)
	}
	for _, held := range s.cloud.State().Tokens() {
		if strings.Contains(said, held.ID) {
			s.t.Error("it says too much of a token")
		}
	}
	return said
}

// letGo runs the commands that the script printed.
func (s *stage) letGo(said string) {
	s.t.Helper()
	commands := regexp.MustCompile(`(?m)^  kubectl -n .*$`).FindAllString(said, -1)
	if len(commands) == 0 {
		s.t.Fatal("it printed no commands")
	}
	if _, code := s.bash("-ec", strings.Join(commands, "\n")); code != done {
		s.t.Fatal("the commands do not work")
	}
}

// ends are the moments in the last list of live tokens that the script printed, one for each token.
func ends(said string) (all []string) {
	begin := max(strings.LastIndex(said, "stay alive until they "), 0)
	for _, line := range regexp.MustCompile(`(?m)^  Secret \S+: (\d+) alive, until (.*)$`).FindAllStringSubmatch(said[begin:], -1) {
		all = append(all, strings.Fields(line[2])...)
	}
	slices.Sort(all)
	return all
}

// says compares moments, of which several tokens may have the same.
func (s *stage) says(what string, want, got []string) {
	s.t.Helper()
	if diff := cmp.Diff(slices.Compact(slices.Clone(want)), slices.Compact(slices.Clone(got))); diff != "" {
		s.t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// nothingIsLeft looks for everything that was installed, and for token Secrets.
func (s *stage) nothingIsLeft() {
	s.t.Helper()
	for _, object := range s.shipped {
		left := &unstructured.Unstructured{}
		left.SetGroupVersionKind(object.GroupVersionKind())
		err := s.Get(s.t.Context(), client.ObjectKeyFromObject(object), left)
		if !apierrors.IsNotFound(err) && !apimeta.IsNoMatchError(err) {
			s.t.Errorf("%s %s is left: %v", object.GetKind(), object.GetName(), err)
		}
	}
	var bindings rbacv1.RoleBindingList
	must(s.t, s.List(s.t.Context(), &bindings, client.InNamespace(home)))
	if len(bindings.Items) > 0 {
		s.t.Errorf("%d RoleBindings are left", len(bindings.Items))
	}
	var secrets corev1.SecretList
	must(s.t, s.List(s.t.Context(), &secrets, client.MatchingFields{"type": credsecret.Type}))
	if len(secrets.Items) > 0 {
		s.t.Errorf("%d token Secrets are left", len(secrets.Items))
	}
}
