package tenancy_test

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/simulator"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/simulator/state"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
	"github.com/mqtt-token-operator/mqtt-token-operator/test/apiserver"
	"github.com/mqtt-token-operator/mqtt-token-operator/test/cluster"
)

const (
	platform = "mqtt-platform" // the platform team's, with the instances and their credentials
	home     = "team-a"        // the attacker's
	victim   = "team-b"
	attacker = "mallory"

	roleARN, providerARN      = "acs:ram::plant:role/mqtt", "acs:ram::plant:oidc-provider/cluster"
	account, keyID, keySecret = "plant", "LTAI-plant", "tenancy-secret"
	factory, private          = "post-cn-factory", "post-cn-private"

	answerWithin = 30 * time.Second
)

// stage is one cluster with two tenants and a platform team. The attacks share it; each works on objects of its own.
type stage struct {
	*cluster.Cluster
	t     *testing.T
	cloud *simulator.Simulator
	// mallory may do what `edit` in team-a allows.
	mallory client.Client
	config  *rest.Config
	manager *cluster.Process
	// kubeconfig is the manager's; end ends it.
	kubeconfig string
	end        func()
	// metrics is where the manager serves them.
	metrics string
	// decoy is a server that nobody may be sent to; visits counts who was.
	decoy  *httptest.Server
	visits atomic.Int32
}

func newStage(t *testing.T) *stage {
	t.Helper()
	s := &stage{t: t}
	var err error
	s.Cluster, err = cluster.Start(t.Context(), cluster.Options{
		Assets: own.Assets, Folder: own.Folder, CRDs: []string{filepath.Join(apiserver.Root(), "config", "crd", "bases")},
		Audited: fmt.Sprintf("system:serviceaccount:%s:%s", cluster.ManagerAccount().Namespace, cluster.ManagerAccount().Name),
		OnEnd:   func(err error) { t.Error(err) },
	})
	must(t, err)
	t.Cleanup(func() { must(t, s.Stop()) })
	s.startCloud()
	kubeconfig, _, err := s.Install(t.Context(), filepath.Join(apiserver.Root(), "config", "default"))
	must(t, err)
	for _, name := range []string{platform, home, victim} {
		must(t, s.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"mqtt": name}}}))
	}
	s.letIn()
	s.declare()
	s.metrics = freeAddress(t)
	s.kubeconfig = kubeconfig
	s.start("manager")
	s.served(victim, "press")
	s.served(victim, "own")
	return s
}

// start starts the manager.
func (s *stage) start(name string, arguments ...string) {
	s.t.Helper()
	asked := &atomic.Bool{}
	var err error
	s.manager, err = cluster.StartProcess(s.t.Context(), cluster.Command{
		Name: name, Path: own.Manager, LogFolder: own.Folder, Environment: append(s.ownIdentity(), "KUBECONFIG="+s.kubeconfig),
		Arguments: append([]string{
			"--leader-elect", "--namespace=" + cluster.ManagerAccount().Namespace, "--metrics-bind-address=" + s.metrics, "--health-probe-bind-address=0",
			"--allowed-endpoints=" + s.cloud.APIAddress(), "--revocation-deadline=10s",
		}, arguments...),
	}, func(err error) {
		if !asked.Load() {
			s.t.Errorf("the manager: %v", err)
		}
	})
	must(s.t, err)
	s.end = func() { asked.Store(true); s.manager.Stop() }
	s.t.Cleanup(s.end)
}

func (s *stage) startCloud() {
	s.t.Helper()
	var err error
	s.cloud, err = simulator.Start(context.WithoutCancel(s.t.Context()), simulator.Options{
		Accounts: []state.Account{{
			ID: account, Keys: []state.Key{{ID: keyID, Secret: token.NewValue(keySecret)}},
			Roles: []state.Role{{ARN: roleARN, OIDCProviderARN: providerARN}},
		}},
		Instances: []state.Instance{
			{ID: factory, Region: "cn-hangzhou", Account: account}, {ID: private, Region: "cn-hangzhou", Account: account},
		},
		Quotas: state.DefaultQuotas(),
	})
	must(s.t, err)
	s.t.Cleanup(func() { must(s.t, s.cloud.Close()) })
	s.decoy = httptest.NewUnstartedServer(nil)
	s.decoy.Listener = countingListener{Listener: s.decoy.Listener, visits: &s.visits}
	s.decoy.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	s.decoy.StartTLS()
	s.t.Cleanup(s.decoy.Close)
}

// ownIdentity is what the cluster's webhook would put into the manager's pod: a role for its service account.
func (s *stage) ownIdentity() []string {
	s.t.Helper()
	claims := fmt.Sprintf(`{"sub":"system:serviceaccount:%s","aud":["sts.aliyuncs.com"],"exp":%d}`, cluster.ManagerAccount(), time.Now().Add(time.Hour).Unix())
	presented := "e30." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".c2ln"
	tokenFile, caFile := filepath.Join(own.Folder, "oidc-token"), filepath.Join(own.Folder, "sts-ca.crt")
	must(s.t, os.WriteFile(tokenFile, []byte(presented), 0o600))
	must(s.t, os.WriteFile(caFile, s.cloud.CAPEM(), 0o600))
	return []string{
		"ALIBABA_CLOUD_ROLE_ARN=" + roleARN, "ALIBABA_CLOUD_OIDC_PROVIDER_ARN=" + providerARN, "ALIBABA_CLOUD_OIDC_TOKEN_FILE=" + tokenFile,
		"ALIBABA_CLOUD_STS_ENDPOINT=" + s.cloud.APIAddress(), "SSL_CERT_FILE=" + caFile,
	}
}

// countingListener counts connections, also those that get no further than the handshake.
type countingListener struct {
	net.Listener
	visits *atomic.Int32
}

// Accept implements net.Listener.
func (l countingListener) Accept() (net.Conn, error) {
	connection, err := l.Listener.Accept()
	if err == nil {
		l.visits.Add(1)
	}
	return connection, err
}

// letIn makes the attacker an editor of its own namespace, and waits until the API server knows the operator's part of it.
func (s *stage) letIn() {
	s.t.Helper()
	must(s.t, s.Create(s.t.Context(), &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Namespace: home, Name: "edit"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "edit"},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: attacker}},
	}))
	s.config = rest.CopyConfig(s.Config)
	s.config.Impersonate = rest.ImpersonationConfig{UserName: attacker, Groups: []string{"system:authenticated"}}
	var err error
	s.mallory, err = client.New(s.config, client.Options{Scheme: s.Scheme()})
	must(s.t, err)
	must(s.t, cluster.Eventually(s.t.Context(), cluster.StartWithin, func() (string, error) {
		err := s.mallory.List(s.t.Context(), &v1alpha1.MqttTokenGrantList{}, client.InNamespace(home))
		if apierrors.IsForbidden(err) {
			return err.Error(), nil
		}
		return "", err
	}))
}

// declare makes what the platform team and the other tenant have. Each team has its own topics and device ids below its
// name, publishes telemetry, and may share the presses of the hall, whose client ids are free to all.
func (s *stage) declare() {
	s.t.Helper()
	must(s.t, s.Create(s.t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: platform, Name: "ak"},
		StringData: map[string]string{"accessKeyID": keyID, "accessKeySecret": keySecret},
	}))
	both, publish := []v1alpha1.Action{v1alpha1.ActionPublish, v1alpha1.ActionSubscribe}, []v1alpha1.Action{v1alpha1.ActionPublish}
	teams := v1alpha1.RuleNamespaces{From: v1alpha1.NamespacesSelector, Selector: &metav1.LabelSelector{
		MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "mqtt", Operator: metav1.LabelSelectorOpIn, Values: []string{home, victim}}},
	}}
	must(s.t, s.Create(s.t.Context(), s.instance(platform, "factory", factory, v1alpha1.AccessRule{
		Namespaces: teams, GroupIDs: []string{"GID_line*"}, DeviceIDs: []string{"{namespace}-*"}, MaxValidity: "24h",
		Topics: []v1alpha1.TopicRule{{Filter: "factory/{namespace}/#", Actions: both}, {Filter: "telemetry/{namespace}", Actions: publish}},
	}, v1alpha1.AccessRule{
		Namespaces: teams, GroupIDs: []string{"GID_hall"}, Topics: []v1alpha1.TopicRule{{Filter: "hall/#", Actions: both}},
	})))
	must(s.t, s.Create(s.t.Context(), s.instance(platform, "private", private)))
	must(s.t, s.Create(s.t.Context(), s.grant(victim, "press")))
	own := s.instance(cluster.ManagerAccount().Namespace, "own", factory, v1alpha1.AccessRule{
		Namespaces: teams, GroupIDs: []string{"GID_line"}, Topics: []v1alpha1.TopicRule{{Filter: "factory/{namespace}/#", Actions: both}},
	})
	own.Spec.Credentials, own.Spec.ClientAccessKeyID = v1alpha1.Credentials{Type: v1alpha1.CredentialTypeRRSA}, keyID
	must(s.t, s.Create(s.t.Context(), own))
	must(s.t, s.Create(s.t.Context(), s.grant(victim, "own", func(g *v1alpha1.MqttTokenGrant) {
		g.Spec.InstanceRef = v1alpha1.InstanceReference{Namespace: own.Namespace, Name: own.Name}
	})))
	must(s.t, s.Create(s.t.Context(), s.grant(victim, "hall", hall("press-1"))))
}

func (s *stage) instance(namespace, name, id string, rules ...v1alpha1.AccessRule) *v1alpha1.MqttInstance {
	return &v1alpha1.MqttInstance{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: v1alpha1.MqttInstanceSpec{
			InstanceID: id, RegionID: "cn-hangzhou", Endpoint: s.cloud.APIAddress(), CABundle: string(s.cloud.CAPEM()),
			Credentials: v1alpha1.Credentials{
				Type:      v1alpha1.CredentialTypeAccessKey,
				AccessKey: v1alpha1.AccessKeyCredential{SecretRef: v1alpha1.SecretReference{Name: "ak"}},
			},
			AccessRules: rules,
		},
	}
}

// grant asks for what a team may have.
func (s *stage) grant(namespace, name string, changes ...func(*v1alpha1.MqttTokenGrant)) *v1alpha1.MqttTokenGrant {
	g := &v1alpha1.MqttTokenGrant{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: v1alpha1.MqttTokenGrantSpec{
			InstanceRef: v1alpha1.InstanceReference{Namespace: platform, Name: "factory"},
			Client:      v1alpha1.Client{GroupID: "GID_line", DeviceID: namespace + "-" + name},
			Topics:      []v1alpha1.TopicPermission{{Filter: "factory/" + namespace + "/" + name, Actions: []v1alpha1.Action{v1alpha1.ActionPublish}}},
			Overlap:     "1s",
		},
	}
	for _, change := range changes {
		change(g)
	}
	return g
}

// hall is a client of the hall, where no rule divides the teams.
func hall(device string) func(*v1alpha1.MqttTokenGrant) {
	return func(g *v1alpha1.MqttTokenGrant) {
		g.Spec.Client = v1alpha1.Client{GroupID: "GID_hall", DeviceID: device}
		g.Spec.Topics[0].Filter = "hall/" + device
	}
}

// attack is one attempt: what is done, and what must not have come of it.
type attack struct {
	*stage
	t *testing.T
}

// run makes an attempt and sees that it had no effect beyond what its test says.
func (s *stage) run(t *testing.T, attempt func(attack)) {
	t.Helper()
	a := attack{stage: s, t: t}
	before := a.tokensOf(victim)
	attempt(a)
	if after := a.tokensOf(victim); !slices.Equal(before, after) {
		t.Errorf("the other team had the tokens %q and has %q", before, after)
	}
	for _, held := range s.cloud.State().Tokens() {
		for _, topic := range held.Topics {
			mine := strings.HasPrefix(topic, "factory/"+home+"/") || strings.HasPrefix(topic, "hall/") || topic == "telemetry/"+home
			if !mine && !strings.HasPrefix(topic, "factory/"+victim+"/") || held.InstanceID != factory {
				t.Errorf("a token was issued for %q at %s", topic, held.InstanceID)
			}
		}
	}
	if n := s.visits.Load(); n > 0 {
		t.Errorf("%d connections to a server that is not the service's", n)
	}
}

// tokensOf lists the live tokens for a team's topics.
func (s *stage) tokensOf(team string) []string {
	var ids []string
	for _, held := range s.cloud.State().Tokens() {
		if _, validity := s.cloud.State().Lookup(held.ID); validity == state.Valid && strings.HasPrefix(held.Topics[0], "factory/"+team+"/") {
			ids = append(ids, held.ID)
		}
	}
	slices.Sort(ids)
	return ids
}

// live counts the tokens that are alive for a grant's first topic.
func (a attack) live(topic string) (count int) {
	for _, held := range a.cloud.State().Tokens() {
		if _, validity := a.cloud.State().Lookup(held.ID); validity == state.Valid && slices.Contains(held.Topics, topic) {
			count++
		}
	}
	return count
}

// create makes an object as the attacker.
func (a attack) create(object client.Object) {
	a.t.Helper()
	must(a.t, a.mallory.Create(a.t.Context(), object))
}

// edit changes a grant as the attacker.
func (a attack) edit(name string, change func(*v1alpha1.MqttTokenGrant)) {
	a.t.Helper()
	must(a.t, cluster.Eventually(a.t.Context(), answerWithin, func() (string, error) {
		g := a.grant(home, name)
		if err := a.mallory.Get(a.t.Context(), client.ObjectKeyFromObject(g), g); err != nil {
			return "", err
		}
		change(g)
		err := a.mallory.Update(a.t.Context(), g)
		if apierrors.IsConflict(err) {
			return err.Error(), nil
		}
		return "", err
	}))
}

// editSecret changes a Secret as the attacker.
func (a attack) editSecret(name string, change func(*corev1.Secret)) {
	a.t.Helper()
	must(a.t, cluster.Eventually(a.t.Context(), answerWithin, func() (string, error) {
		secret := &corev1.Secret{}
		if err := a.mallory.Get(a.t.Context(), client.ObjectKey{Namespace: home, Name: name}, secret); err != nil {
			return "", err
		}
		change(secret)
		err := a.mallory.Update(a.t.Context(), secret)
		if apierrors.IsConflict(err) {
			return err.Error(), nil
		}
		return "", err
	}))
}

// answered waits until a grant's Ready condition is False for a reason, and returns what it says.
func (a attack) answered(name, reason string) string {
	a.t.Helper()
	return a.says(name, v1alpha1.ReadyCondition, reason)
}

// answeredAuthorized is answered for a grant that may still have tokens.
func (a attack) answeredAuthorized(name, reason string) string {
	a.t.Helper()
	return a.says(name, v1alpha1.AuthorizedCondition, reason)
}

func (a attack) says(name, kind, reason string) string {
	a.t.Helper()
	g, message := a.grant(home, name), ""
	a.eventually("an answer of "+reason, func() string {
		must(a.t, a.Get(a.t.Context(), client.ObjectKeyFromObject(g), g))
		c := apimeta.FindStatusCondition(g.Status.Conditions, kind)
		if c == nil || c.Status != metav1.ConditionFalse || c.Reason != reason {
			return fmt.Sprintf("%+v", g.Status.Conditions)
		}
		message = c.Message
		return ""
	})
	return message
}

// served waits until a grant is Ready.
func (s *stage) served(namespace, name string) {
	s.t.Helper()
	g := s.grant(namespace, name)
	err := cluster.Eventually(s.t.Context(), answerWithin, func() (string, error) {
		if err := s.Get(s.t.Context(), client.ObjectKeyFromObject(g), g); err != nil {
			return "", err
		}
		if !apimeta.IsStatusConditionTrue(g.Status.Conditions, v1alpha1.ReadyCondition) {
			return fmt.Sprintf("%+v", g.Status.Conditions), nil
		}
		return "", nil
	})
	if err != nil {
		s.t.Fatalf("grant %s/%s is not Ready: %v\n%s", namespace, name, err, s.manager.Tail(20))
	}
}

func (a attack) eventually(what string, missing func() string) {
	a.t.Helper()
	if err := cluster.Eventually(a.t.Context(), answerWithin, func() (string, error) { return missing(), nil }); err != nil {
		a.t.Fatalf("%s: %v\n%s", what, err, a.manager.Tail(20))
	}
}
