package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
)

const (
	startWithin = time.Minute
	// identityLasts is how long the manager's service account token lasts; a playground does not stay up longer.
	identityLasts = 7 * 24 * time.Hour
	fieldOwner    = client.FieldOwner("playground")
)

// cluster is a control plane without nodes: etcd, kube-apiserver and kube-controller-manager.
type cluster struct {
	environment *envtest.Environment
	controllers *process
	config      *rest.Config // as cluster administrator
	client.Client

	folder     string
	kubectl    string
	kubeconfig string
	version    string
}

// startCluster starts a control plane that keeps its files in a folder. On an error nothing is left running.
func startCluster(ctx context.Context, o options, folder string, onEnd func(error)) (*cluster, error) {
	c := &cluster{folder: folder, kubectl: o.kubectl(), kubeconfig: filepath.Join(folder, "kubeconfig")}
	c.environment = &envtest.Environment{
		BinaryAssetsDirectory: o.assets, ControlPlaneStartTimeout: startWithin, ControlPlaneStopTimeout: stopWithin,
	}
	output, err := os.Create(filepath.Join(folder, "kube-apiserver.log"))
	if err != nil {
		return nil, fmt.Errorf("making a log for the API server: %w", err)
	}
	server := c.environment.ControlPlane.GetAPIServer()
	server.Out, server.Err = output, output
	// As strict as a cluster can be about owner references: the manager must be allowed to block a deletion.
	server.Configure().Append("enable-admission-plugins", "OwnerReferencesPermissionEnforcement")
	if c.config, err = c.environment.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("starting etcd and kube-apiserver: %w", err), c.environment.Stop())
	}
	if err := c.complete(ctx, o, onEnd); err != nil {
		return nil, errors.Join(err, c.stop())
	}
	return c, nil
}

// complete adds what needs the API server: clients and controllers.
func (c *cluster) complete(ctx context.Context, o options, onEnd func(error)) error {
	kinds := runtime.NewScheme()
	if err := errors.Join(scheme.AddToScheme(kinds), v1alpha1.AddToScheme(kinds)); err != nil {
		return fmt.Errorf("registering kinds: %w", err)
	}
	var err error
	if c.Client, err = client.New(c.config, client.Options{Scheme: kinds}); err != nil {
		return fmt.Errorf("making a client: %w", err)
	}
	asked, err := discovery.NewDiscoveryClientForConfig(c.config)
	if err != nil {
		return fmt.Errorf("making a client: %w", err)
	}
	version, err := asked.ServerVersion()
	if err != nil {
		return fmt.Errorf("asking for the API server's version: %w", err)
	}
	c.version = version.GitVersion
	if err := os.WriteFile(c.kubeconfig, c.environment.KubeConfig, secretFileMode); err != nil {
		return fmt.Errorf("writing the kubeconfig: %w", err)
	}
	return c.startControllers(ctx, o, onEnd)
}

// startControllers starts those controllers of kube-controller-manager that a cluster without nodes needs; each with the
// role that Kubernetes made for it.
func (c *cluster) startControllers(ctx context.Context, o options, onEnd func(error)) error {
	user, err := c.environment.AddUser(envtest.User{Name: "system:kube-controller-manager"}, nil)
	if err != nil {
		return fmt.Errorf("making an identity for kube-controller-manager: %w", err)
	}
	text, err := user.KubeConfig()
	if err != nil {
		return fmt.Errorf("making a kubeconfig for kube-controller-manager: %w", err)
	}
	kubeconfig := filepath.Join(c.folder, "kube-controller-manager.kubeconfig")
	if err := os.WriteFile(kubeconfig, text, secretFileMode); err != nil {
		return fmt.Errorf("writing a kubeconfig for kube-controller-manager: %w", err)
	}
	c.controllers, err = startProcess(ctx, command{
		name: "kube-controller-manager", path: o.controllerManager(), logFolder: c.folder,
		arguments: []string{
			"--kubeconfig=" + kubeconfig, "--use-service-account-credentials", "--leader-elect=false", "--secure-port=0",
			"--controllers=garbage-collector-controller,namespace-controller,serviceaccount-controller,clusterrole-aggregation-controller",
		},
	}, onEnd)
	return err
}

// apply applies objects as `kubectl apply --server-side` does. Kinds that have just been defined take a moment.
func (c *cluster) apply(ctx context.Context, objects ...*unstructured.Unstructured) error {
	for _, object := range objects {
		err := eventually(ctx, startWithin, func() (string, error) {
			err := c.Apply(ctx, client.ApplyConfigurationFromUnstructured(object.DeepCopy()), fieldOwner, client.ForceOwnership)
			if apimeta.IsNoMatchError(err) || apierrors.IsNotFound(err) {
				return err.Error(), nil
			}
			return "", err
		})
		if err != nil {
			return fmt.Errorf("applying %s %s: %w", object.GetKind(), object.GetName(), err)
		}
	}
	return nil
}

// kubeconfigFor writes a kubeconfig with nothing but a token of a service account, as pods get one.
func (c *cluster) kubeconfigFor(ctx context.Context, account types.NamespacedName) (string, *rest.Config, error) {
	request := &authenticationv1.TokenRequest{
		Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: new(int64(identityLasts.Seconds()))},
	}
	who := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: account.Namespace, Name: account.Name}}
	if err := c.SubResource("token").Create(ctx, who, request); err != nil {
		return "", nil, fmt.Errorf("asking for a token of service account %s: %w", account, err)
	}
	kubeconfig := clientcmdapi.NewConfig()
	kubeconfig.Clusters["playground"] = &clientcmdapi.Cluster{Server: c.config.Host, CertificateAuthorityData: c.config.CAData}
	kubeconfig.AuthInfos[account.Name] = &clientcmdapi.AuthInfo{Token: request.Status.Token}
	kubeconfig.Contexts["playground"] = &clientcmdapi.Context{Cluster: "playground", AuthInfo: account.Name}
	kubeconfig.CurrentContext = "playground"
	path := filepath.Join(c.folder, account.Name+".kubeconfig")
	if err := clientcmd.WriteToFile(*kubeconfig, path); err != nil {
		return "", nil, fmt.Errorf("writing a kubeconfig: %w", err)
	}
	config := rest.AnonymousClientConfig(c.config)
	config.BearerToken = request.Status.Token
	return path, config, nil
}

// ask runs kubectl as cluster administrator and returns what it printed.
func (c *cluster) ask(ctx context.Context, arguments ...string) (string, error) {
	return run(ctx, c.kubectl, append([]string{"--kubeconfig", c.kubeconfig}, arguments...)...)
}

// stop ends everything, the API server's clients first.
func (c *cluster) stop() error {
	if c.controllers != nil {
		c.controllers.stop()
	}
	if err := c.environment.Stop(); err != nil {
		return fmt.Errorf("stopping etcd and kube-apiserver: %w", err)
	}
	return nil
}
