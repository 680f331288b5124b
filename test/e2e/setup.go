package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/template"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/mqtt-token-operator/mqtt-token-operator/test/cluster"
)

const (
	// podWithin is how long a pod may take to run, or to be gone.
	podWithin = time.Minute

	managerNamespace = "mqtt-token-system"
	managerName      = "mqtt-token-operator-manager"
	line             = "line-a"
)

func (w *world) importImages(ctx context.Context) error {
	if !w.node.Ours() {
		w.Held("a cluster with kube-apiserver %s answers; the archives in %s must be in its node", w.node.Version, w.o.images)
		return w.show(ctx, "get", "nodes")
	}
	w.Held("kube-apiserver %s, controller-manager, scheduler, kubelet and containerd run", w.node.Version)
	for _, name := range images() {
		if err := w.node.LoadImage(ctx, w.o.image(name)); err != nil {
			return err
		}
	}
	w.Held("images of %s are here, none was pulled", strings.Join(images(), ", "))
	return w.show(ctx, "get", "nodes")
}

func (w *world) startCloud(ctx context.Context) error {
	var err error
	if w.cloud, err = newCloud(); err != nil {
		return err
	}
	if err := w.apply(ctx, "simulator.yaml", w.cloud); err != nil {
		return err
	}
	if _, err := w.node.Ask(ctx, "-n", "cloud", "rollout", "status", "deployment/simulator", "--timeout=60s"); err != nil {
		return err
	}
	w.forward, err = cluster.StartProcess(ctx, cluster.Command{
		Name: "forward", Path: w.node.Kubectl, LogFolder: w.folder, Arguments: []string{
			"--kubeconfig=" + w.node.Kubeconfig, "-n", "cloud", "port-forward", "deployment/simulator", fmt.Sprintf("%d:%d", w.cloud.local, w.cloud.AdminPort),
		},
	}, w.onEnd)
	if err != nil {
		return err
	}
	err = cluster.Eventually(ctx, podWithin, func() (string, error) {
		ca, err := w.cloud.get(ctx, "/ca.crt")
		if err != nil {
			return err.Error(), nil //nolint:nilerr // it is starting
		}
		w.cloud.CA = string(ca)
		return "", nil
	})
	if err != nil {
		return err
	}
	w.Held("the token service answers at localhost:%d, the broker listens at mqtts://localhost:%d", w.cloud.APIPort, w.cloud.TLSPort)
	return nil
}

// installOperator applies what is shipped, but for what a node without a network plugin asks for.
func (w *world) installOperator(ctx context.Context) error {
	shipped, err := w.node.Kustomize(ctx, w.o.config)
	if err != nil {
		return err
	}
	for _, object := range shipped {
		if err := w.adapt(object); err != nil {
			return fmt.Errorf("adapting %s %s: %w", object.GetKind(), object.GetName(), err)
		}
	}
	ca := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"namespace": managerNamespace, "name": "cloud-ca"},
		"data": map[string]any{"ca.crt": w.cloud.CA},
	}}
	if err := w.node.ApplyAll(ctx, append(shipped, ca)...); err != nil {
		return err
	}
	if _, err := w.node.Ask(ctx, "-n", managerNamespace, "rollout", "status", "deployment/"+managerName, "--timeout=60s"); err != nil {
		return err
	}
	w.Held("Deployment %s is available: its pod passes its probes and leads", managerName)
	return w.show(ctx, "-n", managerNamespace, "get", "pods")
}

// adapt changes what is shipped as little as a node without a network plugin allows. Pods on the node's network share its
// ports, so there is one replica, and their namespace cannot be restricted.
func (w *world) adapt(object *unstructured.Unstructured) error {
	switch object.GetKind() {
	case "Namespace":
		object.SetLabels(map[string]string{"pod-security.kubernetes.io/enforce": "privileged"})
	case "Deployment":
		return w.adaptDeployment(object)
	}
	return nil
}

func (w *world) adaptDeployment(object *unstructured.Unstructured) error {
	err := onNode(object, "manager", func(container map[string]any) error {
		api := fmt.Sprintf("localhost:%d", w.cloud.APIPort)
		arguments, _, err := unstructured.NestedStringSlice(container, "args")
		container["args"] = anys(append(arguments, "--allowed-endpoints="+api, "--manager-identity-namespaces=mqtt-system"))
		environment, _, fault := unstructured.NestedSlice(container, "env")
		container["env"] = append(environment, map[string]any{"name": "ALIBABA_CLOUD_STS_ENDPOINT", "value": api})
		return errors.Join(err, fault)
	})
	return errors.Join(err, unstructured.SetNestedField(object.Object, int64(1), "spec", "replicas"))
}

// onNode has the first container of a workload run an image that is there, on the node's network.
func onNode(workload *unstructured.Unstructured, image string, change func(container map[string]any) error) error {
	pod, _, err := unstructured.NestedMap(workload.Object, "spec", "template", "spec")
	if err != nil {
		return err
	}
	containers, _, err := unstructured.NestedSlice(pod, "containers")
	if err != nil {
		return err
	}
	container, ok := containers[0].(map[string]any)
	if !ok {
		return fmt.Errorf("the first container is a %T", containers[0])
	}
	container["image"], container["imagePullPolicy"] = "localhost/"+image+":e2e", "Never"
	for _, bound := range []string{"requests", "limits"} { // the node does not count storage
		unstructured.RemoveNestedField(container, "resources", bound, "ephemeral-storage")
	}
	if err := change(container); err != nil {
		return err
	}
	pod["containers"], pod["hostNetwork"] = containers, true
	return unstructured.SetNestedMap(workload.Object, pod, "spec", "template", "spec")
}

func anys(texts []string) []any {
	all := make([]any, 0, len(texts))
	for _, text := range texts {
		all = append(all, text)
	}
	return all
}

// declare applies the grants before their instance: whatever the order, it converges.
func (w *world) declare(ctx context.Context) error {
	if err := w.apply(ctx, "line.yaml", nil); err != nil {
		return err
	}
	if err := w.apply(ctx, "instance.yaml", w.cloud); err != nil {
		return err
	}
	// The API server's admission knows new kinds within half a minute; whoever is refused until then tries again later.
	for _, question := range []string{
		"-n mqtt-system wait --for=condition=Ready mqi --all --timeout=150s",
		"-n " + line + " wait --for=condition=Ready mtg --all --timeout=150s",
	} {
		if _, err := w.node.Ask(ctx, strings.Fields(question)...); err != nil {
			return err
		}
	}
	w.Held("`kubectl wait --for=condition=Ready` ends for the instances and for all grants")
	calls, err := w.cloud.calls(ctx)
	if err != nil {
		return err
	}
	assumed := calls["AssumeRoleWithOIDC"]
	if succeeded := assumed.Total - assumed.Failed; succeeded < 1 {
		return fmt.Errorf("nobody has assumed the role: %+v", assumed)
	}
	w.Held("instance factory-by-role has no AccessKey: the manager's service account has assumed a RAM role")
	return errors.Join(w.show(ctx, "get", "mqi", "-n", "mqtt-system"), w.show(ctx, "get", "mtg", "-n", line))
}

// apply fills a manifest in and applies it as `kubectl apply --server-side` does, with strict validation.
func (w *world) apply(ctx context.Context, name string, values any) error {
	text, err := os.ReadFile(filepath.Join(w.o.manifests, name))
	if err != nil {
		return fmt.Errorf("reading a manifest: %w", err)
	}
	quote := template.FuncMap{"json": func(v any) (string, error) { text, err := json.Marshal(v); return string(text), err }}
	filled, err := template.New(name).Option("missingkey=error").Funcs(quote).Parse(string(text))
	if err != nil {
		return fmt.Errorf("reading a manifest: %w", err)
	}
	var manifest bytes.Buffer
	if err := filled.Execute(&manifest, values); err != nil {
		return fmt.Errorf("filling in %s: %w", name, err)
	}
	file := filepath.Join(w.folder, name)
	if err := os.WriteFile(file, manifest.Bytes(), 0o600); err != nil {
		return fmt.Errorf("writing a manifest: %w", err)
	}
	_, err = w.node.Ask(ctx, "apply", "--server-side", "--validate=strict", "-f", file)
	return err
}

// show runs kubectl and shows what it prints, as it would look on the reader's own terminal.
func (w *world) show(ctx context.Context, arguments ...string) error {
	text, err := w.node.Ask(ctx, arguments...)
	if err != nil {
		return err
	}
	w.Note("$ kubectl %s", strings.Join(arguments, " "))
	w.Block(text)
	return nil
}
