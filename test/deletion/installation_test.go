package deletion_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/controllers"
	"github.com/mqtt-token-operator/mqtt-token-operator/test/apiserver"
	"github.com/mqtt-token-operator/mqtt-token-operator/test/cluster"
)

// installation is the operator as a folder of manifests installs it, in a cluster of its own.
type installation struct {
	*cluster.Cluster
	t *testing.T
	// folder is where its files go.
	folder string
	// binding is the RoleBinding that lets the manager into a namespace; nil where it is let into all.
	binding    *unstructured.Unstructured
	arguments  []string // of the Deployment's container
	kubeconfig string
	config     *rest.Config
	stages     []*stage

	manager *cluster.Process
	starts  int
	asked   atomic.Bool // the manager may end
}

// install starts a cluster and applies the manifests of a folder.
func install(t *testing.T, manifests string) *installation {
	t.Helper()
	i := &installation{t: t, folder: filepath.Join(own.Folder, filepath.Base(manifests))}
	must(t, os.Mkdir(i.folder, 0o700))
	var err error
	i.Cluster, err = cluster.Start(t.Context(), cluster.Options{
		Assets: own.Assets, Folder: i.folder, CRDs: []string{filepath.Join(apiserver.Root(), "config", "crd", "bases")},
		OnEnd: func(err error) { t.Error(err) },
	})
	must(t, err)
	t.Cleanup(func() { must(t, i.Stop()) })
	shipped, err := i.Kustomize(t.Context(), filepath.Join(apiserver.Root(), manifests))
	must(t, err)
	var objects []*unstructured.Unstructured
	for _, object := range shipped {
		isBinding := object.GetKind() == "RoleBinding" && object.GetNamespace() != cluster.ManagerAccount().Namespace
		switch {
		case isBinding:
			i.binding = object // for a namespace of the samples, which is not here
		case object.GetKind() == "Deployment":
			i.arguments = argumentsOf(t, object)
		}
		if !isBinding {
			objects = append(objects, object)
		}
	}
	i.kubeconfig, i.config, err = i.InstallManifests(t.Context(), objects...)
	must(t, err)
	return i
}

func argumentsOf(t *testing.T, deployment *unstructured.Unstructured) []string {
	t.Helper()
	containers, _, err := unstructured.NestedSlice(deployment.Object, "spec", "template", "spec", "containers")
	must(t, err)
	arguments, _, err := unstructured.NestedStringSlice(containers[0].(map[string]any), "args")
	must(t, err)
	return arguments
}

// makeNamespace makes a namespace that the manager serves.
func (i *installation) makeNamespace(t *testing.T, name string) {
	t.Helper()
	must(t, i.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}))
	if i.binding != nil {
		binding := i.binding.DeepCopy()
		binding.SetNamespace(name)
		must(t, i.ApplyAll(t.Context(), binding))
	}
}

// start starts the manager, once the API server knows its rights, and expects it to run until it is killed.
func (i *installation) start() {
	i.t.Helper()
	i.awaitRights()
	arguments := slices.Clone(i.arguments)
	for n, argument := range arguments {
		arguments[n] = strings.ReplaceAll(argument, "$(POD_NAMESPACE)", cluster.ManagerAccount().Namespace)
		if strings.HasPrefix(argument, "--watch-namespaces=") {
			arguments[n] = "--watch-namespaces=" + strings.Join(i.namespaces(), ",")
		}
	}
	var endpoints []string
	for _, s := range i.stages {
		endpoints = append(endpoints, s.cloud.APIAddress())
	}
	arguments = append(arguments, "--metrics-bind-address=0", "--health-probe-bind-address=0", "--revocation-deadline="+deadline.String(),
		"--allowed-endpoints="+strings.Join(endpoints, ","))
	i.starts++
	i.asked.Store(false)
	var err error
	i.manager, err = cluster.StartProcess(i.t.Context(), cluster.Command{
		Name: fmt.Sprintf("manager-%d", i.starts), Path: own.Manager, LogFolder: i.folder,
		Arguments: arguments, Environment: []string{"KUBECONFIG=" + i.kubeconfig},
	}, func(err error) {
		if !i.asked.Load() {
			i.t.Errorf("the manager: %v", err)
		}
	})
	must(i.t, err)
	i.t.Cleanup(i.manager.Stop)
}

// namespaces are those of all stages, the ones that are gone by now included.
func (i *installation) namespaces() []string {
	var names []string
	for _, s := range i.stages {
		names = append(names, s.name)
		if s.platform != s.name {
			names = append(names, s.platform)
		}
	}
	return names
}

// awaitRights waits until the API server has taken in the RoleBindings.
func (i *installation) awaitRights() {
	i.t.Helper()
	if i.binding == nil {
		return
	}
	asManager, err := client.New(i.config, client.Options{Scheme: i.Scheme()})
	must(i.t, err)
	var bindings rbacv1.RoleBindingList
	must(i.t, i.List(i.t.Context(), &bindings, client.MatchingFields{"metadata.name": i.binding.GetName()}))
	for _, binding := range bindings.Items {
		if !slices.Contains(i.namespaces(), binding.Namespace) {
			continue
		}
		must(i.t, cluster.Eventually(i.t.Context(), cluster.StartWithin, func() (string, error) {
			err := asManager.List(i.t.Context(), &v1alpha1.MqttTokenGrantList{}, client.InNamespace(binding.Namespace))
			if apierrors.IsForbidden(err) {
				return err.Error(), nil
			}
			return "", err
		}))
	}
}

// kill ends the manager as a node does that loses power.
func (i *installation) kill() {
	i.t.Helper()
	i.mayEnd()
	must(i.t, i.manager.Signal(syscall.SIGKILL))
	<-i.manager.Ended()
}

// stop asks the manager to end. It gives the lease up then.
func (i *installation) stop() {
	i.mayEnd()
	i.manager.Stop()
}

func (i *installation) mayEnd() { i.asked.Store(true) }

// hasOnlyTheRightsThatItNeeds asks the API server what the manager may do.
func (i *installation) hasOnlyTheRightsThatItNeeds() {
	i.t.Run("has only the rights that it needs", func(t *testing.T) {
		asked, err := client.New(i.config, client.Options{Scheme: i.Scheme()})
		must(t, err)
		const everywhere, rbac = "", rbacv1.GroupName
		bound, served := i.binding != nil, i.stages[0].name
		for sentence, tc := range map[string]struct {
			verb, group, resource, namespace, name string
			want                                   bool
		}{
			"reads Secrets where it serves":           {"list", "", "secrets", served, "", true},
			"reads Secrets everywhere":                {"list", "", "secrets", everywhere, "", !bound},
			"reads Secrets of others":                 {"get", "", "secrets", metav1.NamespaceSystem, "", !bound},
			"reads grants everywhere":                 {"list", v1alpha1.GroupName, "mqtttokengrants", everywhere, "", !bound},
			"watches namespaces":                      {"watch", "", "namespaces", everywhere, "", true},
			"changes namespaces":                      {"patch", "", "namespaces", everywhere, "", false},
			"lets its RoleBinding go":                 {"patch", rbac, "rolebindings", served, controllers.RoleBindingName, bound},
			"changes another RoleBinding":             {"patch", rbac, "rolebindings", served, "another", false},
			"changes RoleBindings where it is not in": {"patch", rbac, "rolebindings", metav1.NamespaceSystem, controllers.RoleBindingName, false},
			"makes RoleBindings":                      {"create", rbac, "rolebindings", served, "", false},
			"grants what it does not have":            {"escalate", rbac, "clusterroles", everywhere, "", false},
			"binds roles":                             {"bind", rbac, "clusterroles", everywhere, "", false},
			"changes instances":                       {"update", v1alpha1.GroupName, "mqttinstances", served, "", false},
		} {
			review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
				ResourceAttributes: &authorizationv1.ResourceAttributes{
					Verb: tc.verb, Group: tc.group, Resource: tc.resource, Namespace: tc.namespace, Name: tc.name,
				},
			}}
			must(t, asked.Create(t.Context(), review))
			if review.Status.Allowed != tc.want {
				t.Errorf("%s: %v, want %v", sentence, review.Status.Allowed, tc.want)
			}
		}
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
