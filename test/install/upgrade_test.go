package install_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/credsecret"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/simulator/state"
)

// An older installation, to our manager, is one whose kinds lack the newest field. It goes on with what it finds, before the
// upgrade, after it, and when somebody goes back.
func TestAnUpgradeAndItsUndoingChangeNothing(t *testing.T) {
	s := newStage(t)
	older := withoutField(t, s.shipped, "mqtttokengrants.mqtt.tokengrant.dev", "rolloutRestartTargets")
	s.install(older)
	stop := s.start()
	s.declare()
	before, applied := s.versions(), s.cloud.Calls()[state.Apply].Total
	for _, manifests := range [][]*unstructured.Unstructured{s.shipped, older} {
		stop()
		s.install(manifests)
		stop = s.start()
		s.serve("press-3")
		must(t, s.Delete(t.Context(), s.grant("press-3")))
		s.eventually("it has gone", func() string {
			if s.Get(t.Context(), client.ObjectKeyFromObject(s.grant("press-3")), s.grant("press-3")) == nil {
				return "it is there"
			}
			return ""
		})
		applied += 2 // press-3's
		if diff := cmp.Diff(before, s.versions()); diff != "" {
			t.Errorf("token Secrets (-before +after):\n%s", diff)
		}
		if got := s.cloud.Calls()[state.Apply].Total; got != applied {
			t.Errorf("%d calls of ApplyToken, want %d", got, applied)
		}
	}
}

func (s *stage) grant(name string) *unstructured.Unstructured {
	grant := &unstructured.Unstructured{}
	grant.SetAPIVersion("mqtt.tokengrant.dev/v1alpha1")
	grant.SetKind("MqttTokenGrant")
	grant.SetNamespace(home)
	grant.SetName(name)
	return grant
}

// versions are those of all token Secrets.
func (s *stage) versions() map[string]string {
	s.t.Helper()
	var secrets corev1.SecretList
	must(s.t, s.List(s.t.Context(), &secrets, client.InNamespace(home), client.MatchingFields{"type": credsecret.Type}))
	versions := map[string]string{}
	for i := range secrets.Items {
		versions[secrets.Items[i].Name] = secrets.Items[i].ResourceVersion
	}
	return versions
}

// withoutField returns manifests in which a kind lacks a field of its spec.
func withoutField(t *testing.T, manifests []*unstructured.Unstructured, kind, field string) []*unstructured.Unstructured {
	t.Helper()
	older := make([]*unstructured.Unstructured, 0, len(manifests))
	for _, object := range manifests {
		object = object.DeepCopy()
		if object.GetName() == kind {
			versions, _, err := unstructured.NestedSlice(object.Object, "spec", "versions")
			must(t, err)
			version, ok := versions[0].(map[string]any)
			if !ok {
				t.Fatal("no version")
			}
			at := []string{"schema", "openAPIV3Schema", "properties", "spec", "properties", field}
			if _, found, _ := unstructured.NestedMap(version, at...); !found {
				t.Fatalf("%s has no field %s", kind, field)
			}
			unstructured.RemoveNestedField(version, at...)
			must(t, unstructured.SetNestedSlice(object.Object, versions, "spec", "versions"))
		}
		older = append(older, object)
	}
	return older
}
