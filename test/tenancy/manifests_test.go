package tenancy_test

import (
	"path/filepath"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-token-operator/mqtt-token-operator/test/apiserver"
	"github.com/mqtt-token-operator/mqtt-token-operator/test/cluster"
)

// runsRestricted creates the manager's pod where pods must be restricted, and one that is not.
func (s *stage) runsRestricted(t *testing.T) {
	shipped, err := s.Kustomize(t.Context(), filepath.Join(apiserver.Root(), "config", "default"))
	must(t, err)
	var deployment appsv1.Deployment
	must(t, runtime.DefaultUnstructuredConverter.FromUnstructured(cluster.OfKind(shipped, "Deployment")[0].Object, &deployment))
	pod := func(name string) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: deployment.Namespace, Name: name}, Spec: *deployment.Spec.Template.Spec.DeepCopy()}
	}
	must(t, s.Create(t.Context(), pod("restricted"), client.DryRunAll))
	for sentence, change := range map[string]func(*corev1.PodSpec){
		"more privileges":    func(p *corev1.PodSpec) { p.Containers[0].SecurityContext.AllowPrivilegeEscalation = new(true) },
		"root":               func(p *corev1.PodSpec) { p.SecurityContext.RunAsNonRoot = nil },
		"every system call":  func(p *corev1.PodSpec) { p.SecurityContext.SeccompProfile = nil },
		"Linux capabilities": func(p *corev1.PodSpec) { p.Containers[0].SecurityContext.Capabilities = nil },
		"the node's own file": func(p *corev1.PodSpec) {
			p.Volumes = []corev1.Volume{{Name: "x", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/"}}}}
		},
	} {
		p := pod("loose")
		change(&p.Spec)
		if err := s.Create(t.Context(), p, client.DryRunAll); !apierrors.IsForbidden(err) {
			t.Errorf("%s: want a refusal, got: %v", sentence, err)
		}
	}
	if !*deployment.Spec.Template.Spec.Containers[0].SecurityContext.ReadOnlyRootFilesystem {
		t.Error("the manager can write to its image")
	}
}
