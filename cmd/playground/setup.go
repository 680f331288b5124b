package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	authorizationv1 "k8s.io/api/authorization/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/simulator"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/simulator/broker"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/simulator/state"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
	"github.com/mqtt-token-operator/mqtt-token-operator/test/cluster"
)

// Names of the samples.
const (
	account       = "demo"
	pressName     = "press-07"
	dashboardName = "dashboard"

	kindInstance = "MqttInstance"
	kindGrant    = "MqttTokenGrant"
)

// Short lives make renewal something to watch: it comes a minute after the issue, the earliest that the operator does it.
const (
	shortValidity         = "2m"
	shortRenewBeforeShare = int64(80)
)

func instanceKey() types.NamespacedName {
	return types.NamespacedName{Namespace: "mqtt-system", Name: "factory"}
}

func grantKey(name string) types.NamespacedName {
	return types.NamespacedName{Namespace: "line-a", Name: name}
}

func (g *playground) startCluster(ctx context.Context) error {
	var err error
	if g.samples, err = cluster.LoadManifests(g.o.samples()); err != nil {
		return err
	}
	if g.cluster, err = cluster.Start(ctx, cluster.Options{Assets: g.o.assets, Folder: g.folder, OnEnd: g.onEnd}); err != nil {
		return err
	}
	g.Held("etcd, kube-apiserver and kube-controller-manager %s run; RBAC is enforced", g.cluster.Version)
	return nil
}

// startCloud starts a simulator that knows exactly the account and the instance of the samples.
func (g *playground) startCloud(ctx context.Context) error {
	instance, key, err := g.sampleCloud()
	if err != nil {
		return err
	}
	g.secrets = append(g.secrets, key.Secret.Reveal())
	g.cloud, err = simulator.Start(context.WithoutCancel(ctx), simulator.Options{
		Accounts:  []state.Account{{ID: account, Keys: []state.Key{key}}},
		Instances: []state.Instance{instance}, Quotas: state.DefaultQuotas(),
	})
	if err != nil {
		return fmt.Errorf("starting the simulator: %w", err)
	}
	g.Held("the token service answers at https://%s, signatures checked", g.cloud.APIAddress())
	g.Held("the broker listens at mqtts://%s and holds clients to their tokens", g.cloud.BrokerAddress(broker.TLS))
	return nil
}

func (g *playground) sampleCloud() (state.Instance, state.Key, error) {
	instances, secrets := cluster.OfKind(g.samples, kindInstance), cluster.OfKind(g.samples, "Secret")
	if len(instances) != 1 || len(secrets) != 1 {
		return state.Instance{}, state.Key{}, errors.New("the samples should hold one MqttInstance and one Secret")
	}
	text := func(object *unstructured.Unstructured, path ...string) string {
		value, _, err := unstructured.NestedString(object.Object, path...)
		if err != nil {
			return "" // which the simulator refuses
		}
		return value
	}
	instance := state.Instance{ID: text(instances[0], "spec", "instanceID"), Region: text(instances[0], "spec", "regionID"), Account: account}
	key := state.Key{
		ID: text(secrets[0], "stringData", "accessKeyID"), Secret: token.NewValue(text(secrets[0], "stringData", "accessKeySecret")),
	}
	return instance, key, nil
}

// startManager installs what is shipped, save for the Deployment: the manager runs here, as the service account that it
// would run as there.
func (g *playground) startManager(ctx context.Context) error {
	kubeconfig, config, err := g.cluster.Install(ctx, g.o.installation())
	if err != nil {
		return err
	}
	g.Held("CRDs and roles of config/default are applied")
	g.secrets = append(g.secrets, config.BearerToken)
	if err := checkRights(ctx, config); err != nil {
		return err
	}
	g.manager, err = cluster.StartProcess(ctx, cluster.Command{
		Name: "manager", Path: g.o.manager, LogFolder: g.folder, Environment: []string{"KUBECONFIG=" + kubeconfig},
		Arguments: []string{
			"--leader-elect", "--metrics-bind-address=0", "--health-probe-bind-address=0", "--allowed-endpoints=" + g.cloud.APIAddress(),
		},
	}, g.onEnd)
	if err != nil {
		return err
	}
	g.Held("the manager runs as service account %s, which may not do what it need not", cluster.ManagerAccount())
	return nil
}

// checkRights asks the API server about rights that the manager must not have.
func checkRights(ctx context.Context, config *rest.Config) error {
	asked, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("making a client: %w", err)
	}
	for _, wrong := range []authorizationv1.ResourceAttributes{
		{Verb: "*", Group: "*", Resource: "*"},
		{Verb: "create", Resource: "pods"},
		{Verb: "escalate", Group: "rbac.authorization.k8s.io", Resource: "clusterroles"},
		{Verb: "update", Group: v1alpha1.GroupName, Resource: "mqttinstances"},
		{Verb: "create", Group: "coordination.k8s.io", Resource: "leases", Namespace: "kube-system"},
	} {
		review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &wrong}}
		answer, err := asked.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, review, metav1.CreateOptions{})
		if err != nil {
			return fmt.Errorf("asking for the manager's rights: %w", err)
		}
		if answer.Status.Allowed {
			return fmt.Errorf("the manager may %s %s.%s, which it need not", wrong.Verb, wrong.Resource, wrong.Group)
		}
	}
	return nil
}

func (g *playground) declareInstance(ctx context.Context) error {
	for _, instance := range cluster.OfKind(g.samples, kindInstance) {
		if err := g.pointAtSimulator(instance); err != nil {
			return err
		}
	}
	if err := g.cluster.ApplyAll(ctx, cluster.Except(g.samples, kindGrant)...); err != nil {
		return err
	}
	instance := &v1alpha1.MqttInstance{}
	err := cluster.Eventually(ctx, cluster.StartWithin, func() (string, error) {
		if err := g.cluster.Get(ctx, instanceKey(), instance); err != nil {
			return "", err
		}
		return unready(instance.Status.Conditions), nil
	})
	if err != nil {
		return fmt.Errorf("MqttInstance %s: %w", instanceKey(), err)
	}
	g.Held("MqttInstance %s is Ready: %s", instanceKey(), apimeta.FindStatusCondition(instance.Status.Conditions, v1alpha1.ReadyCondition).Message)
	return g.show(ctx, "get", "mqi", "-A")
}

// pointAtSimulator says where the sample's instance is to be found on this machine.
func (g *playground) pointAtSimulator(instance *unstructured.Unstructured) error {
	addresses := map[string]string{"tls": g.cloud.BrokerAddress(broker.TLS), "wss": g.cloud.BrokerAddress(broker.WebSocketTLS), "tcp": g.cloud.BrokerAddress(broker.TCP)}
	ports, host := map[string]any{}, ""
	for name, address := range addresses {
		var port int64
		var err error
		if host, port, err = splitAddress(address); err != nil {
			return err
		}
		ports[name] = port
	}
	spec, _, err := unstructured.NestedMap(instance.Object, "spec")
	if err != nil {
		return fmt.Errorf("reading the sample instance: %w", err)
	}
	maps.Copy(spec, map[string]any{
		"endpoint": g.cloud.APIAddress(), "caBundle": string(g.cloud.CAPEM()),
		"broker": map[string]any{"host": host, "ports": ports, "caBundle": string(g.cloud.CAPEM())},
	})
	return unstructured.SetNestedMap(instance.Object, spec, "spec")
}

func (g *playground) askForTokens(ctx context.Context) error {
	grants := cluster.OfKind(g.samples, kindGrant)
	for _, grant := range grants {
		if grant.GetName() != pressName {
			continue
		}
		err := errors.Join(
			unstructured.SetNestedField(grant.Object, shortValidity, "spec", "validity"),
			unstructured.SetNestedField(grant.Object, shortRenewBeforeShare, "spec", "renewBeforePercentage"))
		if err != nil {
			return fmt.Errorf("changing the sample grant: %w", err)
		}
	}
	if err := g.cluster.ApplyAll(ctx, grants...); err != nil {
		return err
	}
	g.Held("the grants of %s are applied; %s asks for tokens of %s only, so that they are renewed in front of you", g.o.samples(), pressName, shortValidity)
	for _, applied := range grants {
		grant, err := g.awaitReady(ctx, applied.GetName())
		if err != nil {
			return err
		}
		g.Held("%s: %s", grant.Name, describeTokens(grant))
	}
	return g.show(ctx, "get", "mtg", "-n", grantKey("").Namespace)
}

func (g *playground) awaitReady(ctx context.Context, name string) (*v1alpha1.MqttTokenGrant, error) {
	grant := &v1alpha1.MqttTokenGrant{}
	err := cluster.Eventually(ctx, cluster.StartWithin, func() (string, error) {
		if err := g.cluster.Get(ctx, grantKey(name), grant); err != nil {
			return "", err
		}
		return unready(grant.Status.Conditions), nil
	})
	if err != nil {
		return nil, fmt.Errorf("MqttTokenGrant %s: %w", name, err)
	}
	return grant, nil
}

// describeTokens says which tokens a grant got, and where they are.
func describeTokens(grant *v1alpha1.MqttTokenGrant) string {
	var kinds []string
	for _, t := range grant.Status.Tokens {
		kinds = append(kinds, t.Type)
	}
	slices.Sort(kinds)
	return fmt.Sprintf("%d token(s) (%s) in Secret %s, for %s", len(kinds), strings.Join(kinds, ", "), grant.Status.SecretName,
		until(grant.Status.ExpirationTime.Time))
}
