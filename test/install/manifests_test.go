package install_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	appsv1 "k8s.io/api/apps/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/mqtt-token-operator/mqtt-token-operator/test/apiserver"
	"github.com/mqtt-token-operator/mqtt-token-operator/test/cluster"
)

// TestManifests has the API server look at every manifest that is shipped, as strictly as it can.
func TestManifests(t *testing.T) {
	c := startCluster(t)
	all := shipped(t, c)
	for name, objects := range all {
		t.Run(name, func(t *testing.T) {
			if len(objects) == 0 {
				t.Fatal("there is nothing in it")
			}
			must(t, accepted(t, c, objects))
			if deployments := cluster.OfKind(objects, "Deployment"); strings.HasPrefix(name, "config") && len(deployments) > 0 {
				selectsTheManager(t, objects)
				must(t, c.ApplyAll(t.Context(), cluster.OfKind(objects, "ServiceAccount", "PriorityClass")...))
				must(t, c.Create(t.Context(), podOf(t, deployments[0]), client.DryRunAll)) // where pods must be restricted
			}
		})
	}
	t.Run("a misspelt field is refused", func(t *testing.T) {
		for kind, misspell := range map[string]func(*unstructured.Unstructured) error{
			"Deployment": func(o *unstructured.Unstructured) error {
				return unstructured.SetNestedField(o.Object, int64(2), "spec", "replica")
			},
			"MqttTokenGrant": func(o *unstructured.Unstructured) error {
				return unstructured.SetNestedField(o.Object, "1h", "spec", "valid")
			},
			"ServiceMonitor": func(o *unstructured.Unstructured) error {
				return unstructured.SetNestedField(o.Object, "x", "spec", "endpoint")
			},
			"Kustomization": func(o *unstructured.Unstructured) error {
				return unstructured.SetNestedField(o.Object, "x", "spec", "healthCheckExpr")
			},
		} {
			var objects []*unstructured.Unstructured
			for _, set := range all {
				objects = append(objects, cluster.OfKind(set, kind)...)
			}
			must(t, misspell(objects[0]))
			if accepted(t, c, objects[:1]) == nil {
				t.Errorf("%s: it was taken", kind)
			}
		}
	})
	t.Run("what reads metrics may do nothing else", func(t *testing.T) { readsMetricsAlone(t, c) })
}

// shipped is every set of manifests that is shipped: the installations, each component on each of them, the samples, and
// whatever examples there are.
func shipped(t *testing.T, c *cluster.Cluster) map[string][]*unstructured.Unstructured {
	t.Helper()
	sets := map[string][]*unstructured.Unstructured{}
	kustomize := func(name, folder string) {
		objects, err := c.Kustomize(t.Context(), folder)
		must(t, err)
		sets[name] = objects
	}
	for _, folder := range []string{"config/default", "config/namespaced", "config/samples"} {
		kustomize(folder, filepath.Join(apiserver.Root(), folder))
	}
	components, err := filepath.Glob(filepath.Join(apiserver.Root(), "config", "components", "*"))
	must(t, err)
	for _, component := range components {
		for _, installation := range []string{"config/default", "config/namespaced"} {
			if filepath.Base(component) == "namespaced" && installation == "config/namespaced" {
				continue
			}
			kustomize(installation+" with "+filepath.Base(component), overlay(t, installation, component))
		}
	}
	files := manifestFiles(t, filepath.Join(apiserver.Root(), "examples"))
	for _, tool := range []string{"argocd", "flux"} {
		files = append(files, manifestFiles(t, filepath.Join(apiserver.Root(), "config", tool))...)
	}
	for _, file := range files {
		objects, err := cluster.LoadFile(file)
		must(t, err)
		name, err := filepath.Rel(apiserver.Root(), file)
		must(t, err)
		sets[name] = slices.DeleteFunc(objects, func(o *unstructured.Unstructured) bool { return o.GetKind() == "" })
	}
	return sets
}

// overlay writes what somebody writes who adds a component to an installation.
func overlay(t *testing.T, installation, component string) string {
	t.Helper()
	folder := t.TempDir()
	root, err := filepath.Rel(folder, apiserver.Root())
	must(t, err)
	component, err = filepath.Rel(folder, component)
	must(t, err)
	text := fmt.Sprintf("resources: [%q]\ncomponents: [%q]\n", filepath.Join(root, installation), component)
	must(t, os.WriteFile(filepath.Join(folder, cluster.Kustomization), []byte(text), 0o600))
	return folder
}

// manifestFiles lists the YAML files below a folder that may not be there.
func manifestFiles(t *testing.T, folder string) (files []string) {
	t.Helper()
	err := filepath.WalkDir(folder, func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.Name() == "node_modules":
			return fs.SkipDir
		case filepath.Ext(name) == ".yaml" && entry.Name() != cluster.Kustomization:
			files = append(files, name)
		}
		return nil
	})
	if !errors.Is(err, fs.ErrNotExist) {
		must(t, err)
	}
	return files
}

// accepted has the API server take everything, by kubectl, without keeping it: save for the namespaces, without which it
// could not look at what is in them, and for kinds that it does not know: their own types judge those.
func accepted(t *testing.T, c *cluster.Cluster, objects []*unstructured.Unstructured) error {
	t.Helper()
	var documents []string
	for _, object := range objects {
		if err := makeNamespace(t, c, object); err != nil {
			return err
		}
		text, err := yaml.Marshal(object.Object)
		if err != nil {
			return err
		}
		foreign := map[schema.GroupKind]any{
			{Group: "monitoring.coreos.com", Kind: "ServiceMonitor"}:      &monitoringv1.ServiceMonitor{},
			{Group: "kustomize.toolkit.fluxcd.io", Kind: "Kustomization"}: &kustomizev1.Kustomization{},
		}
		if kind, known := foreign[object.GroupVersionKind().GroupKind()]; known {
			if err := yaml.UnmarshalStrict(text, kind); err != nil {
				return err
			}
			continue
		}
		documents = append(documents, string(text))
	}
	if len(documents) == 0 {
		return nil
	}
	file := filepath.Join(t.TempDir(), "manifests.yaml")
	if err := os.WriteFile(file, []byte(strings.Join(documents, "---\n")), 0o600); err != nil {
		return err
	}
	_, err := c.Ask(t.Context(), "apply", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict", "-f", file)
	return err
}

func makeNamespace(t *testing.T, c *cluster.Cluster, object *unstructured.Unstructured) error {
	t.Helper()
	if object.GetKind() == "Namespace" {
		return c.ApplyAll(t.Context(), object)
	}
	if object.GetNamespace() == "" {
		return nil
	}
	return client.IgnoreAlreadyExists(c.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: object.GetNamespace()}}))
}

func podOf(t *testing.T, shipped *unstructured.Unstructured) *corev1.Pod {
	t.Helper()
	var deployment appsv1.Deployment
	must(t, runtime.DefaultUnstructuredConverter.FromUnstructured(shipped.Object, &deployment))
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: deployment.Namespace, Name: "manager"}, Spec: deployment.Spec.Template.Spec}
}

// selectsTheManager sees to it that whatever selects pods selects the manager's.
func selectsTheManager(t *testing.T, objects []*unstructured.Unstructured) {
	t.Helper()
	var deployment appsv1.Deployment
	must(t, runtime.DefaultUnstructuredConverter.FromUnstructured(cluster.OfKind(objects, "Deployment")[0].Object, &deployment))
	pod := deployment.Spec.Template
	selectors := []*metav1.LabelSelector{
		pod.Spec.TopologySpreadConstraints[0].LabelSelector,
		pod.Spec.Affinity.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution[0].PodAffinityTerm.LabelSelector,
	}
	for kind, path := range map[string][]string{
		"Service": {"spec", "selector"}, "PodDisruptionBudget": {"spec", "selector", "matchLabels"}, "NetworkPolicy": {"spec", "podSelector", "matchLabels"},
	} {
		for _, object := range cluster.OfKind(objects, kind) {
			wanted, _, err := unstructured.NestedStringMap(object.Object, path...)
			must(t, err)
			selectors = append(selectors, &metav1.LabelSelector{MatchLabels: wanted})
		}
	}
	for _, s := range selectors {
		selector, err := metav1.LabelSelectorAsSelector(s)
		must(t, err)
		if selector.Empty() || !selector.Matches(labels.Set(pod.Labels)) {
			t.Errorf("%s does not select the manager's pods, labelled %v", selector, pod.Labels)
		}
	}
	for _, monitor := range cluster.OfKind(objects, "ServiceMonitor") {
		wanted, _, err := unstructured.NestedStringMap(monitor.Object, "spec", "selector", "matchLabels")
		must(t, err)
		if service := cluster.OfKind(objects, "Service")[0]; !labels.SelectorFromSet(wanted).Matches(labels.Set(service.GetLabels())) {
			t.Errorf("the ServiceMonitor selects %v, and the Service has %v", wanted, service.GetLabels())
		}
	}
}

// readsMetricsAlone asks the API server what the identity may do that Prometheus gets.
func readsMetricsAlone(t *testing.T, c *cluster.Cluster) {
	objects, err := c.Kustomize(t.Context(), overlay(t, "config/default", filepath.Join(apiserver.Root(), "config", "components", "servicemonitor")))
	must(t, err)
	must(t, c.ApplyAll(t.Context(), cluster.OfKind(objects, "ClusterRole", "ClusterRoleBinding", "ServiceAccount")...))
	namespace := cluster.ManagerAccount().Namespace
	ask := func(spec authorizationv1.SubjectAccessReviewSpec) bool {
		spec.User = "system:serviceaccount:" + namespace + ":mqtt-token-operator-metrics"
		review := &authorizationv1.SubjectAccessReview{Spec: spec}
		must(t, c.Create(t.Context(), review))
		return review.Status.Allowed
	}
	metrics := authorizationv1.SubjectAccessReviewSpec{NonResourceAttributes: &authorizationv1.NonResourceAttributes{Path: "/metrics", Verb: "get"}}
	must(t, cluster.Eventually(t.Context(), cluster.StartWithin, func() (string, error) {
		if !ask(metrics) {
			return "the right to get metrics", nil
		}
		return "", nil
	}))
	for sentence, spec := range map[string]authorizationv1.SubjectAccessReviewSpec{
		"reads the ledger": {ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: "get", Resource: "secrets", Namespace: namespace}},
		"reads logs":       {NonResourceAttributes: &authorizationv1.NonResourceAttributes{Path: "/logs", Verb: "get"}},
	} {
		if ask(spec) {
			t.Errorf("it %s", sentence)
		}
	}
}
