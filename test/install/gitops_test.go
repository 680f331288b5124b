package install_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/simulator/state"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/simulator/wire"
	"github.com/mqtt-token-operator/mqtt-token-operator/test/gitops"
)

// gitOpsOwner is the field manager of a tool that applies what is in Git.
const gitOpsOwner = client.FieldOwner("gitops")

// A tool applies what is in Git in whatever order, and prunes it in another.
func TestAnyOrderOfApplyingAndPruningEnds(t *testing.T) {
	s := newStage(t)
	s.install(s.shipped)
	s.start()
	for seed := range uint64(4) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			s := s.of(t)
			namespaces := []string{fmt.Sprintf("platform-%d", seed), fmt.Sprintf("line-%d", seed)}
			for _, name := range namespaces {
				must(t, s.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}))
			}
			pieces := s.pieces(namespaces[0], namespaces[1])
			order := rand.New(rand.NewPCG(7, seed))
			order.Shuffle(len(pieces), func(i, j int) { pieces[i], pieces[j] = pieces[j], pieces[i] })
			for _, piece := range pieces {
				s.apply(piece)
			}
			s.kubectl("wait", "--for=condition=Ready", "mtg", "--all", "-n", namespaces[1], "--timeout=60s")
			s.kubectl("wait", "--for=condition=Ready", "mqi", "--all", "-n", namespaces[0], "--timeout=60s")

			order.Shuffle(len(pieces), func(i, j int) { pieces[i], pieces[j] = pieces[j], pieces[i] })
			for _, piece := range pieces {
				must(t, client.IgnoreNotFound(s.Delete(t.Context(), piece)))
			}
			s.eventually("everything has gone", func() string { return s.left(pieces) })
			s.says("no token is alive", nil, s.alive())
		})
	}
}

// pieces are what a plant has in Git. Pruning the namespace that the applications are in takes them along.
func (s *stage) pieces(platform, line string) []*unstructured.Unstructured {
	s.t.Helper()
	return parse(s.t, fmt.Sprintf(`
apiVersion: v1
kind: Namespace
metadata: {name: %[2]s, labels: {mqtt: factory}}
---
apiVersion: v1
kind: Secret
metadata: {name: factory-ak, namespace: %[1]s}
stringData: {accessKeyID: %[3]s, accessKeySecret: %[4]s}
---
apiVersion: mqtt.tokengrant.dev/v1alpha1
kind: MqttInstance
metadata: {name: factory, namespace: %[1]s}
spec:
  instanceID: %[5]s
  regionID: cn-hangzhou
  endpoint: %[6]s
  caBundle: %[7]q
  credentials: {type: AccessKey, accessKey: {secretRef: {name: factory-ak}}}
  accessRules:
  - namespaces: {from: Selector, selector: {matchLabels: {mqtt: factory}}}
    groupIDs: ["GID_line"]
    topics: [{filter: "factory/#", actions: [Publish, Subscribe]}]
---
%[8]s
---
%[9]s
`, platform, line, keyID, keySecret, instanceID, s.cloud.APIAddress(), string(s.cloud.CAPEM()),
		grantManifest(platform, line, "press", ""), grantManifest(platform, line, "dashboard", "")))
}

func grantManifest(platform, line, name, metadata string) string {
	return fmt.Sprintf(`apiVersion: mqtt.tokengrant.dev/v1alpha1
kind: MqttTokenGrant
metadata: {name: %[3]s, namespace: %[2]s%[4]s}
spec:
  instanceRef: {name: factory, namespace: %[1]s}
  client: {groupID: GID_line, deviceID: %[3]s}
  topics: [{filter: "factory/%[3]s", actions: [Publish]}]`, platform, line, name, metadata)
}

func parse(t *testing.T, manifests string) []*unstructured.Unstructured {
	t.Helper()
	var objects []*unstructured.Unstructured
	for text := range strings.SplitSeq(manifests, "\n---\n") {
		object := &unstructured.Unstructured{}
		must(t, yaml.Unmarshal([]byte(text), &object.Object))
		objects = append(objects, object)
	}
	return objects
}

func (s *stage) apply(object *unstructured.Unstructured) {
	s.t.Helper()
	must(s.t, s.Apply(s.t.Context(), client.ApplyConfigurationFromUnstructured(object.DeepCopy()), gitOpsOwner, client.ForceOwnership))
}

// left names something that is still there.
func (s *stage) left(objects []*unstructured.Unstructured) string {
	for _, object := range objects {
		found := object.DeepCopy()
		if s.Get(s.t.Context(), client.ObjectKeyFromObject(object), found) == nil {
			return fmt.Sprintf("%s %s: %v", object.GetKind(), object.GetName(), found.Object["status"])
		}
	}
	return ""
}

// A renamed grant takes its predecessor's Secret over, and one that moves has its client id once the other has gone,
// whichever of the two a tool deletes or applies first.
func TestARenameAndAMoveEnd(t *testing.T) {
	s := newStage(t)
	s.install(s.shipped)
	s.start()
	for _, name := range []string{"plant", "line-a2", "line-b2"} {
		must(t, s.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"mqtt": "factory"}}}))
	}
	for _, piece := range s.pieces("plant", "line-a2") {
		s.apply(piece)
	}
	s.kubectl("wait", "--for=condition=Ready", "mtg", "--all", "-n", "line-a2", "--timeout=60s")

	renamed := parse(t, grantManifest("plant", "line-a2", "press", ""))[0]
	renamed.SetName("press-new")
	renamed.SetAnnotations(map[string]string{v1alpha1.TakeOverAnnotation: "press"})
	must(t, unstructured.SetNestedField(renamed.Object, "press", "spec", "secret", "name"))
	s.apply(renamed)
	must(t, s.Delete(t.Context(), parse(t, grantManifest("plant", "line-a2", "press", ""))[0]))
	s.ready(renamed)

	moved, old := parse(t, grantManifest("plant", "line-b2", "dashboard", ""))[0], parse(t, grantManifest("plant", "line-a2", "dashboard", ""))[0]
	s.apply(moved) // and waits for the client id
	must(t, s.Delete(t.Context(), old))
	s.ready(moved)
	s.eventually("the old ones have gone", func() string {
		return s.left(append(parse(t, grantManifest("plant", "line-a2", "press", "")), old))
	})
}

func (s *stage) ready(object *unstructured.Unstructured) {
	s.t.Helper()
	grant := &v1alpha1.MqttTokenGrant{}
	s.eventually(object.GetName()+" is Ready", func() string {
		if err := s.Get(s.t.Context(), client.ObjectKeyFromObject(object), grant); err != nil {
			return err.Error()
		}
		if !apimeta.IsStatusConditionTrue(grant.Status.Conditions, v1alpha1.ReadyCondition) {
			return fmt.Sprintf("%+v", grant.Status.Conditions)
		}
		return ""
	})
}

// Nobody of ours writes what a tool owns, so that applying again changes nothing and shows no difference.
func TestApplyingAgainChangesNothing(t *testing.T) {
	s := newStage(t)
	s.install(s.shipped)
	s.start()
	for _, name := range []string{"plant", "line"} {
		must(t, s.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}))
	}
	var text []string
	for _, piece := range s.pieces("plant", "line") {
		manifest, err := yaml.Marshal(piece.Object)
		must(t, err)
		text = append(text, string(manifest))
	}
	file := filepath.Join(t.TempDir(), "plant.yaml")
	must(t, os.WriteFile(file, []byte(strings.Join(text, "---\n")), 0o600))
	apply := []string{"apply", "--server-side", "-f", file}
	s.kubectl(apply...)
	s.kubectl("wait", "--for=condition=Ready", "mtg", "--all", "-n", "line", "--timeout=60s")

	// A tool labels what it finds, too.
	secret := &corev1.Secret{}
	must(t, s.Get(t.Context(), client.ObjectKey{Namespace: "line", Name: "press"}, secret))
	labelled := secret.DeepCopy()
	metav1.SetMetaDataLabel(&labelled.ObjectMeta, "app.example.com/part-of", "plant")
	must(t, s.Patch(t.Context(), labelled, client.MergeFrom(secret), gitOpsOwner))
	grant := &v1alpha1.MqttTokenGrant{}
	must(t, s.Get(t.Context(), client.ObjectKey{Namespace: "line", Name: "press"}, grant))
	before := grant.DeepCopy()
	metav1.SetMetaDataAnnotation(&grant.ObjectMeta, v1alpha1.ReissueAnnotation, "1")
	must(t, s.Patch(t.Context(), grant, client.MergeFrom(before), client.FieldOwner("kubectl")))
	s.eventually("new tokens", func() string {
		must(t, s.Get(t.Context(), client.ObjectKeyFromObject(grant), grant))
		if grant.Status.Revision < 2 {
			return "the first ones"
		}
		return ""
	})
	must(t, s.Get(t.Context(), client.ObjectKeyFromObject(secret), secret))
	if secret.Labels["app.example.com/part-of"] != "plant" {
		t.Errorf("the label of a tool has gone: %v", secret.Labels)
	}

	versions := s.versionsOf("plant", "line")
	s.kubectl(apply...)
	if again := s.versionsOf("plant", "line"); again != versions {
		t.Errorf("applying again changed something:\n%s\n%s", versions, again)
	}
	s.kubectl("diff", "--server-side", "-f", file)
	for _, entry := range grant.ManagedFields {
		if entry.Manager != "kubectl" && entry.Manager != string(gitOpsOwner) && strings.Contains(entry.FieldsV1.GetRawString(), `"f:spec"`) {
			t.Errorf("%s owns fields of the spec", entry.Manager)
		}
	}
}

// versionsOf lists the resource versions of all grants and instances of some namespaces.
func (s *stage) versionsOf(namespaces ...string) string {
	s.t.Helper()
	var all []string
	for _, namespace := range namespaces {
		text, err := s.Ask(s.t.Context(), "get", "mtg,mqi", "-n", namespace, "-o", "jsonpath={range .items[*]}{.kind}/{.metadata.name}={.metadata.resourceVersion} {end}")
		must(s.t, err)
		all = append(all, text)
	}
	return strings.Join(all, " ")
}

// What kstatus, Argo CD's Lua and Flux's CEL make of real objects, in each phase of a grant's life and of its instance's.
func TestVerdictsOnRealObjects(t *testing.T) {
	s := newStage(t)
	s.install(s.shipped)
	for _, name := range []string{"plant", "line"} {
		must(t, s.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"mqtt": "factory"}}}))
	}
	var press, factory *unstructured.Unstructured
	pieces := s.pieces("plant", "line")
	for _, piece := range pieces {
		switch piece.GetName() {
		case "press":
			press = piece
		case "factory":
			factory = piece
		}
	}
	s.create(press.DeepCopy())
	s.concludes(press, gitops.InProgress()) // nobody has looked at it
	s.start()
	s.seen(press)
	s.concludes(press, gitops.InProgress()) // its instance is missing
	s.apply(factory)
	s.seen(factory)
	s.concludes(factory, gitops.InProgress()) // its credential is missing
	for _, piece := range pieces {
		s.apply(piece)
	}
	s.concludes(press, gitops.Current())
	s.concludes(factory, gitops.Current())

	s.kubectl("annotate", "mtg/press", "-n", "line", v1alpha1.HoldAnnotation+"=test")
	s.concludes(press, gitops.WaitsForAPerson())
	s.kubectl("annotate", "mtg/press", "-n", "line", v1alpha1.HoldAnnotation+"-")
	s.concludes(press, gitops.Current())
	parked := parse(t, grantManifest("plant", "line", "parked", ""))[0]
	must(t, unstructured.SetNestedField(parked.Object, true, "spec", "suspend"))
	s.apply(parked)
	s.concludes(parked, gitops.WaitsForAPerson())

	s.goDown()
	s.kubectl("annotate", "mtg/press", "-n", "line", v1alpha1.ReissueAnnotation+"=1")
	s.concludes(press, gitops.Current()) // the last good tokens are there
	s.comeBack()
	must(t, s.cloud.SetFaults(wire.Faults{Calls: []wire.Fault{{Kind: wire.FaultError, Operation: state.Apply, Status: 400, Code: "ParameterCheckFailed"}}}))
	s.kubectl("annotate", "mtg/press", "-n", "line", "--overwrite", v1alpha1.ReissueAnnotation+"=2")
	s.concludes(press, gitops.Failed()) // they are there, but only an edit helps
	s.comeBack()
	s.kubectl("annotate", "mtg/press", "-n", "line", "--overwrite", v1alpha1.ReissueAnnotation+"=3")
	s.concludes(press, gitops.Current())

	denied := parse(t, strings.ReplaceAll(grantManifest("plant", "line", "denied", ""), "factory/denied", "elsewhere"))[0]
	s.apply(denied)
	s.seen(denied)
	s.concludes(denied, gitops.InProgress())
	broken := parse(t, grantManifest("plant", "line", "broken", ""))[0]
	must(t, unstructured.SetNestedStringMap(broken.Object, map[string]string{"bridge.conf": "{{ .Nonsense }}"}, "spec", "secret", "template"))
	s.apply(broken)
	s.concludes(broken, gitops.Failed())
	must(t, s.Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "line", Name: "foreign"}}))
	foreign := parse(t, grantManifest("plant", "line", "foreign", ""))[0]
	s.apply(foreign)
	s.concludes(foreign, gitops.Failed())
	lost := factory.DeepCopy()
	lost.SetName("lost")
	must(t, unstructured.SetNestedField(lost.Object, "elsewhere.example.com", "spec", "endpoint"))
	s.apply(lost)
	s.concludes(lost, gitops.Failed())

	s.goDown()
	must(t, s.Delete(t.Context(), factory.DeepCopy()))
	s.concludes(factory, gitops.Terminating())
	must(t, s.Delete(t.Context(), press.DeepCopy()))
	s.concludes(press, gitops.Terminating())
	s.comeBack()
}

// seen waits until the manager has written conditions.
func (s *stage) seen(object *unstructured.Unstructured) {
	s.t.Helper()
	s.eventually("somebody has looked at "+object.GetName(), func() string {
		found := s.found(object)
		if conditions, _, _ := unstructured.NestedSlice(found.Object, "status", "conditions"); len(conditions) == 0 {
			return "no conditions"
		}
		return ""
	})
}

func (s *stage) found(object *unstructured.Unstructured) *unstructured.Unstructured {
	s.t.Helper()
	found := object.DeepCopy()
	must(s.t, s.Get(s.t.Context(), client.ObjectKeyFromObject(object), found))
	return found
}

// concludes waits until the tools come to a conclusion.
func (s *stage) concludes(object *unstructured.Unstructured, want gitops.Verdict) {
	s.t.Helper()
	judges, err := gitops.NewJudges()
	must(s.t, err)
	s.eventually(fmt.Sprintf("%s is %s", object.GetName(), want.ArgoCD), func() string {
		found := s.found(object)
		verdict, err := judges.Judge(s.t.Context(), found)
		must(s.t, err)
		if verdict != want {
			return fmt.Sprintf("it is %v: %v", verdict, found.Object["status"])
		}
		return ""
	})
}
