package install_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/simulator"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/simulator/state"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/simulator/wire"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
	"github.com/mqtt-token-operator/mqtt-token-operator/test/apiserver"
	"github.com/mqtt-token-operator/mqtt-token-operator/test/cluster"
)

const (
	platform, home = "mqtt-system", "line-a"
	instanceID     = "post-cn-plant"
	keyID          = "LTAI-plant"
	keySecret      = "install-secret"

	// deadline is what the manager is told, the shortest that it takes.
	deadline = 10 * time.Second
	// answerWithin is how long a slow machine may take for anything else.
	answerWithin = time.Minute
)

// startCluster starts a cluster with a folder of its own.
func startCluster(t *testing.T) *cluster.Cluster {
	t.Helper()
	place, err := os.MkdirTemp(own.Folder, "") //nolint:usetesting // the suite's folder is there until its processes have ended
	must(t, err)
	c, err := cluster.Start(t.Context(), cluster.Options{
		Assets: own.Assets, Folder: place, CRDs: []string{filepath.Join(apiserver.Root(), "config", "crd", "bases")}, OnEnd: func(err error) { t.Error(err) },
	})
	must(t, err)
	t.Cleanup(func() { must(t, c.Stop()) })
	return c
}

// stage is a cluster with a token service beside it.
type stage struct {
	*cluster.Cluster
	t          *testing.T
	cloud      *simulator.Simulator
	kubeconfig string // the manager's
	shipped    []*unstructured.Unstructured
	starts     int
	path       string // before kubectl's, for scripts
}

func newStage(t *testing.T) *stage {
	t.Helper()
	s := &stage{Cluster: startCluster(t), t: t}
	var err error
	s.shipped, err = s.Kustomize(t.Context(), filepath.Join(apiserver.Root(), "config", "default"))
	must(t, err)
	s.cloud, err = simulator.Start(context.WithoutCancel(t.Context()), simulator.Options{
		Accounts:  []state.Account{{ID: "plant", Keys: []state.Key{{ID: keyID, Secret: token.NewValue(keySecret)}}}},
		Instances: []state.Instance{{ID: instanceID, Region: "cn-hangzhou", Account: "plant"}},
		Quotas:    state.DefaultQuotas(),
	})
	must(t, err)
	t.Cleanup(func() { must(t, s.cloud.Close()) })
	for _, name := range []string{platform, home} {
		must(t, s.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}))
	}
	return s
}

// of is the stage for a test of its own.
func (s *stage) of(t *testing.T) *stage {
	t.Helper()
	copied := *s
	copied.t = t
	return &copied
}

// install applies manifests. The Deployment comes to nothing: there are no nodes, and the manager runs beside the cluster.
func (s *stage) install(manifests []*unstructured.Unstructured) {
	s.t.Helper()
	var err error
	s.kubeconfig, _, err = s.InstallManifests(s.t.Context(), manifests...)
	must(s.t, err)
	must(s.t, s.ApplyAll(s.t.Context(), cluster.OfKind(manifests, "Deployment")...))
}

// start starts a manager; what it returns ends it. It may end by itself when what it needs was deleted.
func (s *stage) start() (stop func()) {
	s.t.Helper()
	s.starts++
	stopped := &atomic.Bool{}
	manager, err := cluster.StartProcess(s.t.Context(), cluster.Command{
		Name: fmt.Sprintf("manager-%d", s.starts), Path: own.Manager, LogFolder: filepath.Dir(s.kubeconfig), Environment: []string{"KUBECONFIG=" + s.kubeconfig},
		Arguments: []string{
			"--leader-elect", "--metrics-bind-address=0", "--health-probe-bind-address=0", "--revocation-deadline=" + deadline.String(),
			"--allowed-endpoints=" + s.cloud.APIAddress(),
		},
	}, func(err error) {
		if !stopped.Load() && s.installed() {
			s.t.Errorf("the manager: %v", err)
		}
	})
	must(s.t, err)
	stop = func() { stopped.Store(true); manager.Stop() }
	s.t.Cleanup(func() {
		stop()
		if s.t.Failed() {
			s.t.Logf("the end of the manager's log:\n%s", manager.Tail(15))
		}
	})
	return stop
}

// installed tells whether the manager has an identity.
func (s *stage) installed() bool {
	account := cluster.ManagerAccount()
	return s.Get(context.WithoutCancel(s.t.Context()), account, &corev1.ServiceAccount{}) == nil
}

// declare makes an instance and two grants, and waits until they are served.
func (s *stage) declare() {
	s.t.Helper()
	credential := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: platform, Name: "factory-ak"},
		StringData: map[string]string{"accessKeyID": keyID, "accessKeySecret": keySecret},
	}
	must(s.t, client.IgnoreAlreadyExists(s.Create(s.t.Context(), credential)))
	s.create(&v1alpha1.MqttInstance{
		ObjectMeta: metav1.ObjectMeta{Namespace: platform, Name: "factory"},
		Spec: v1alpha1.MqttInstanceSpec{
			InstanceID: instanceID, RegionID: "cn-hangzhou", Endpoint: s.cloud.APIAddress(), CABundle: string(s.cloud.CAPEM()),
			Credentials: v1alpha1.Credentials{
				Type:      v1alpha1.CredentialTypeAccessKey,
				AccessKey: v1alpha1.AccessKeyCredential{SecretRef: v1alpha1.SecretReference{Name: "factory-ak"}},
			},
			AccessRules: []v1alpha1.AccessRule{{
				Namespaces: v1alpha1.RuleNamespaces{From: v1alpha1.NamespacesAll}, GroupIDs: []string{"GID_line"},
				Topics: []v1alpha1.TopicRule{{Filter: "factory/#", Actions: []v1alpha1.Action{v1alpha1.ActionPublish, v1alpha1.ActionSubscribe}}},
			}},
		},
	})
	s.serve("press-1", "press-2")
}

// serve makes grants with two tokens each, and waits until they have them.
func (s *stage) serve(names ...string) {
	s.t.Helper()
	for _, name := range names {
		s.create(&v1alpha1.MqttTokenGrant{
			ObjectMeta: metav1.ObjectMeta{Namespace: home, Name: name},
			Spec: v1alpha1.MqttTokenGrantSpec{
				InstanceRef: v1alpha1.InstanceReference{Name: "factory", Namespace: platform},
				Client:      v1alpha1.Client{GroupID: "GID_line", DeviceID: name},
				Topics: []v1alpha1.TopicPermission{
					{Filter: "factory/" + name + "/telemetry", Actions: []v1alpha1.Action{v1alpha1.ActionPublish}},
					{Filter: "factory/" + name + "/commands", Actions: []v1alpha1.Action{v1alpha1.ActionSubscribe}},
				},
			},
		})
	}
	for _, name := range names {
		grant := &v1alpha1.MqttTokenGrant{}
		s.eventually("grant "+name+" is Ready", func() string {
			must(s.t, s.Get(s.t.Context(), client.ObjectKey{Namespace: home, Name: name}, grant))
			if !apimeta.IsStatusConditionTrue(grant.Status.Conditions, v1alpha1.ReadyCondition) {
				return fmt.Sprintf("%+v", grant.Status.Conditions)
			}
			return ""
		})
	}
}

// create makes an object of a kind that may have been defined a moment ago.
func (s *stage) create(object client.Object) {
	s.t.Helper()
	must(s.t, cluster.Eventually(s.t.Context(), answerWithin, func() (string, error) {
		err := s.Create(s.t.Context(), object)
		if apimeta.IsNoMatchError(err) || apierrors.IsNotFound(err) || apierrors.IsMethodNotSupported(err) {
			return err.Error(), nil
		}
		return "", err
	}))
}

// goDown has the service answer every call with an error; comeBack ends that.
func (s *stage) goDown() {
	s.t.Helper()
	must(s.t, s.cloud.SetFaults(wire.Faults{Calls: []wire.Fault{{Kind: wire.FaultError, Status: 503, Code: "ServiceUnavailable"}}}))
}

func (s *stage) comeBack() {
	s.t.Helper()
	must(s.t, s.cloud.SetFaults(wire.Faults{}))
}

// alive are the tokens that the service takes, by when they end.
func (s *stage) alive() (ends []string) {
	for _, held := range s.cloud.State().Tokens() {
		if _, validity := s.cloud.State().Lookup(held.ID); validity == state.Valid {
			ends = append(ends, held.Expires.UTC().Format(time.RFC3339))
		}
	}
	slices.Sort(ends)
	return ends
}

// kubectl runs kubectl as cluster administrator.
func (s *stage) kubectl(arguments ...string) {
	s.t.Helper()
	_, err := s.Ask(s.t.Context(), arguments...)
	must(s.t, err)
}

// bash runs a script as somebody would who has kubectl and is cluster administrator.
func (s *stage) bash(arguments ...string) (output string, code int) {
	s.t.Helper()
	child := exec.CommandContext(s.t.Context(), "bash", arguments...)
	child.Env = append(os.Environ(), "KUBECONFIG="+s.Kubeconfig, "PATH="+s.path+filepath.Dir(s.Kubectl)+":"+os.Getenv("PATH"))
	text, err := child.CombinedOutput()
	var ended *exec.ExitError
	if err != nil && !errors.As(err, &ended) {
		s.t.Fatal(err)
	}
	s.t.Logf("%s: code %d\n%s", strings.Join(arguments[max(0, len(arguments)-3):], " "), child.ProcessState.ExitCode(), text)
	return string(text), child.ProcessState.ExitCode()
}

func (s *stage) eventually(what string, missing func() string) {
	s.t.Helper()
	if err := cluster.Eventually(s.t.Context(), answerWithin, func() (string, error) { return missing(), nil }); err != nil {
		s.t.Fatalf("%s: %v", what, err)
	}
}
