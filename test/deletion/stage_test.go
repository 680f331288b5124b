package deletion_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/controllers"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/credsecret"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/ledger"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/simulator"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/simulator/state"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/simulator/wire"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
	"github.com/mqtt-token-operator/mqtt-token-operator/test/cluster"
)

const (
	keySecret = "deletion-secret"
	account   = "plant"
	// unseenFor is how long a token may be alive before it is in a Secret.
	unseenFor = 3 * time.Second
)

// stage is where one scenario plays: a token service of its own, a namespace with grants, and one with their instance,
// which may be the same.
type stage struct {
	*installation
	t              *testing.T
	name, platform string
	cloud          *simulator.Simulator
	// looked is when the tokens were counted last, and unknown since when some were on no record.
	looked  time.Time
	unknown map[string]time.Time
}

// newStage makes the namespaces and the token service. The manager has to be told of both at its start.
func (i *installation) newStage(together bool) *stage {
	i.t.Helper()
	name := fmt.Sprintf("%s-%d", path.Base(i.t.Name()), len(i.stages)+1)
	s := &stage{installation: i, t: i.t, name: name, platform: name + "-mqtt", unknown: map[string]time.Time{}}
	if together {
		s.platform = name
	} else {
		i.makeNamespace(i.t, s.platform)
	}
	i.makeNamespace(i.t, s.name)
	var err error
	s.cloud, err = simulator.Start(context.WithoutCancel(i.t.Context()), simulator.Options{
		Accounts:  []state.Account{{ID: account, Keys: []state.Key{{ID: s.keyID(), Secret: token.NewValue(keySecret)}}}},
		Instances: []state.Instance{{ID: s.instanceID(), Region: "cn-hangzhou", Account: account}},
		Quotas:    state.DefaultQuotas(),
	})
	must(i.t, err)
	i.t.Cleanup(func() { must(i.t, s.cloud.Close()) })
	i.stages = append(i.stages, s)
	return s
}

// of is the stage for a test of its own.
func (s *stage) of(t *testing.T) *stage {
	t.Helper()
	copied := *s
	copied.t, copied.unknown = t, map[string]time.Time{}
	return &copied
}

// Each has an account, too: those of one account would share its quota.
func (s *stage) instanceID() string { return "post-cn-" + s.name }
func (s *stage) keyID() string      { return "LTAI-" + s.name }

func (s *stage) credential() *corev1.Secret {
	return &corev1.Secret{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: metav1.ObjectMeta{Namespace: s.platform, Name: "factory-ak"},
		StringData: map[string]string{"accessKeyID": s.keyID(), "accessKeySecret": keySecret},
	}
}

func (s *stage) instance() *v1alpha1.MqttInstance {
	return &v1alpha1.MqttInstance{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion().String(), Kind: "MqttInstance"},
		ObjectMeta: metav1.ObjectMeta{Namespace: s.platform, Name: "factory"},
		Spec: v1alpha1.MqttInstanceSpec{
			InstanceID: s.instanceID(), RegionID: "cn-hangzhou", Endpoint: s.cloud.APIAddress(), CABundle: string(s.cloud.CAPEM()),
			Credentials: v1alpha1.Credentials{
				Type:      v1alpha1.CredentialTypeAccessKey,
				AccessKey: v1alpha1.AccessKeyCredential{SecretRef: v1alpha1.SecretReference{Name: "factory-ak"}},
			},
			AccessRules: []v1alpha1.AccessRule{{
				Namespaces: v1alpha1.RuleNamespaces{From: v1alpha1.NamespacesAll}, GroupIDs: []string{"GID_line*"},
				Topics: []v1alpha1.TopicRule{{Filter: "factory/#", Actions: []v1alpha1.Action{v1alpha1.ActionPublish, v1alpha1.ActionSubscribe}}},
			}},
		},
	}
}

// grant is one with two tokens.
func (s *stage) grant(name string) *v1alpha1.MqttTokenGrant {
	return &v1alpha1.MqttTokenGrant{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion().String(), Kind: "MqttTokenGrant"},
		ObjectMeta: metav1.ObjectMeta{Namespace: s.name, Name: name},
		Spec: v1alpha1.MqttTokenGrantSpec{
			InstanceRef: v1alpha1.InstanceReference{Name: "factory", Namespace: s.platform},
			Client:      v1alpha1.Client{GroupID: "GID_line_a", DeviceID: name},
			Overlap:     overlap.String(),
			Topics: []v1alpha1.TopicPermission{
				{Filter: "factory/" + name + "/telemetry", Actions: []v1alpha1.Action{v1alpha1.ActionPublish}},
				{Filter: "factory/" + name + "/commands", Actions: []v1alpha1.Action{v1alpha1.ActionSubscribe}},
			},
		},
	}
}

const (
	// overlap is how long a replaced token stays usable where it must go.
	overlap = 5 * time.Second
	// tokensOfAGrant is how many the grants here need.
	tokensOfAGrant = 2
)

func (s *stage) namespace() *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: s.name}}
}

func (s *stage) roleBinding() *rbacv1.RoleBinding {
	return &rbacv1.RoleBinding{
		TypeMeta:   metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: "RoleBinding"},
		ObjectMeta: metav1.ObjectMeta{Namespace: s.name, Name: controllers.RoleBindingName},
	}
}

func (s *stage) secret(name string) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: s.name, Name: name}}
}

// setUp declares the instance and has its grants served.
func (s *stage) setUp(grants ...string) {
	s.t.Helper()
	must(s.t, s.Create(s.t.Context(), s.credential()))
	must(s.t, s.Create(s.t.Context(), s.instance()))
	for _, name := range grants {
		must(s.t, s.Create(s.t.Context(), s.grant(name)))
	}
	for _, name := range grants {
		s.served(name)
	}
}

// served waits until a grant is Ready.
func (s *stage) served(name string) {
	s.t.Helper()
	grant := s.grant(name)
	s.eventually(cluster.StartWithin, "grant "+name+" is Ready", func() string {
		must(s.t, s.Get(s.t.Context(), client.ObjectKeyFromObject(grant), grant))
		if !apimeta.IsStatusConditionTrue(grant.Status.Conditions, v1alpha1.ReadyCondition) {
			return fmt.Sprintf("%+v", grant.Status.Conditions)
		}
		return ""
	})
}

// slowDown has the service take its time for each call.
func (s *stage) slowDown(latency time.Duration) {
	s.t.Helper()
	must(s.t, s.cloud.SetFaults(wire.Faults{Latency: wire.Duration(latency)}))
}

// goDown has the service answer nothing; comeBack ends that.
func (s *stage) goDown() {
	s.t.Helper()
	must(s.t, s.cloud.SetFaults(wire.Faults{Calls: []wire.Fault{{Kind: wire.FaultOutage}}}))
}

func (s *stage) comeBack() {
	s.t.Helper()
	must(s.t, s.cloud.SetFaults(wire.Faults{}))
}

// kubectl runs kubectl.
func (s *stage) kubectl(arguments ...string) {
	s.t.Helper()
	if _, err := s.Ask(s.t.Context(), arguments...); err != nil {
		s.t.Error(err)
	}
}

// manifest writes objects to a file, in this order.
func (s *stage) manifest(objects ...client.Object) string {
	s.t.Helper()
	var documents []string
	for _, object := range objects {
		text, err := yaml.Marshal(object)
		must(s.t, err)
		documents = append(documents, string(text))
	}
	file := filepath.Join(s.folder, s.name+".yaml")
	must(s.t, os.WriteFile(file, []byte(strings.Join(documents, "---\n")), 0o600))
	return file
}

// delete asks for deletions and waits for nothing.
func (s *stage) delete(objects ...client.Object) {
	s.t.Helper()
	for _, object := range objects {
		must(s.t, s.Delete(s.t.Context(), object))
	}
}

// strip removes all finalizers.
func (s *stage) strip(object client.Object) {
	s.t.Helper()
	must(s.t, s.Patch(s.t.Context(), object, client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"finalizers":null}}`))))
}

// gone waits until nothing of the objects is left, and says how long that took.
func (s *stage) gone(within time.Duration, objects ...client.Object) {
	s.t.Helper()
	began := time.Now()
	s.eventually(within+slack, "everything is gone", func() string {
		for _, object := range objects {
			err := s.Get(s.t.Context(), client.ObjectKeyFromObject(object), object)
			switch {
			case err == nil:
				return fmt.Sprintf("%T %s, finalizers %v", object, client.ObjectKeyFromObject(object), object.GetFinalizers())
			case !apierrors.IsNotFound(err):
				s.t.Fatal(err)
			}
		}
		return ""
	})
	s.t.Logf("gone after %s; the bound is %s and some slack", time.Since(began).Round(100*time.Millisecond), within)
}

// settled has the service answer again, and waits until nothing is alive but what Secrets hold, and nothing in the ledger.
func (s *stage) settled() {
	s.t.Helper()
	s.comeBack()
	began := time.Now()
	s.eventually(time.Minute, "all is revoked that no Secret holds", func() string {
		held, handedOver := s.inSecrets(), s.inLedger()
		alive := s.alive()
		maps.DeleteFunc(alive, func(id string, _ bool) bool { return held[id] })
		if len(alive)+len(handedOver) > 0 {
			return fmt.Sprintf("%d tokens are alive, %d in the ledger", len(alive), len(handedOver))
		}
		return ""
	})
	s.t.Logf("settled after %s", time.Since(began).Round(100*time.Millisecond))
}

// eventually waits until nothing is missing, and sees to it all the while that no token is alive which is on no record.
func (s *stage) eventually(within time.Duration, what string, missing func() string) {
	s.t.Helper()
	err := cluster.Eventually(s.t.Context(), within, func() (string, error) {
		if time.Since(s.looked) > time.Second {
			s.looked = time.Now()
			if unknown := s.onNoRecord(); len(unknown) > 0 {
				return "", fmt.Errorf("tokens are alive that neither a Secret nor the ledger holds: %v", unknown)
			}
		}
		return missing(), nil
	})
	if err != nil {
		s.t.Fatalf("%s: %v\nthe end of the manager's log:\n%s", what, err, s.managerSaid())
	}
}

// managerSaid is the end of what the manager's log says about this stage.
func (s *stage) managerSaid() string {
	const lines, width = 15, 400
	var said []string
	for line := range strings.Lines(s.manager.Tail(10_000)) {
		if strings.Contains(line, `"`+s.name+`"`) || strings.Contains(line, s.name+"/") {
			said = append(said, line[:min(len(line), width)])
		}
	}
	return strings.Join(said[max(0, len(said)-lines):], "\n")
}

// onNoRecord lists the tokens that are alive and have been on no record for a while: one that was just issued is known
// only to the manager. A token is on the next record before it leaves the last one, and alive until it leaves that, so
// the order of the looks matters.
func (s *stage) onNoRecord() []string {
	s.t.Helper()
	known := s.inSecrets()
	maps.Copy(known, s.inLedger())
	alive := s.alive()
	maps.DeleteFunc(alive, func(id string, _ bool) bool { return known[id] })
	maps.DeleteFunc(s.unknown, func(id string, _ time.Time) bool { return !alive[id] })
	var long []string
	for id := range alive {
		if since, found := s.unknown[id]; !found {
			s.unknown[id] = time.Now()
		} else if time.Since(since) > unseenFor {
			long = append(long, id)
		}
	}
	return long
}

// alive are the tokens that the service takes.
func (s *stage) alive() map[string]bool {
	ids := map[string]bool{}
	for _, held := range s.cloud.State().Tokens() {
		if _, validity := s.cloud.State().Lookup(held.ID); validity == state.Valid {
			ids[held.ID] = true
		}
	}
	return ids
}

// inSecrets are the tokens in this stage's Secrets.
func (s *stage) inSecrets() map[string]bool {
	s.t.Helper()
	ids := map[string]bool{}
	var secrets corev1.SecretList
	must(s.t, s.List(s.t.Context(), &secrets, client.InNamespace(s.name), client.MatchingFields{"type": credsecret.Type}))
	for n := range secrets.Items {
		record, err := credsecret.ReadRecord(&secrets.Items[n])
		must(s.t, err)
		for _, t := range record.Tokens {
			ids[state.IDOf(t.Value)] = true
		}
		for _, t := range record.Retired {
			ids[state.IDOf(t.Value)] = true
		}
	}
	return ids
}

// inLedger are the tokens on the ledger's pages of this stage's grants.
func (s *stage) inLedger() map[string]bool {
	s.t.Helper()
	ids := map[string]bool{}
	var pages corev1.SecretList
	must(s.t, s.List(s.t.Context(), &pages, client.InNamespace(cluster.ManagerAccount().Namespace), client.MatchingFields{"type": ledger.Type}))
	for n := range pages.Items {
		page, err := ledger.Read(&pages.Items[n])
		must(s.t, err)
		if !strings.HasPrefix(page.Grant, s.name+"/") {
			continue
		}
		for _, e := range page.Entries {
			ids[state.IDOf(e.Value)] = true
		}
	}
	return ids
}
