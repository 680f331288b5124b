// Package cluster starts a control plane, and the operator beside it: what it takes to see the manager's process at work,
// and to disturb it. It has no nodes of its own; package node adds one.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
)

const (
	// StartWithin is how long a part of the cluster may take to come up.
	StartWithin = time.Minute

	secretFileMode   = 0o600
	secretFolderMode = 0o700
	programMode      = 0o700
	// identityLasts is how long the manager's service account token lasts; no such cluster stays up longer.
	identityLasts = 7 * 24 * time.Hour
	fieldOwner    = client.FieldOwner("test-cluster")
	contextName   = "local"
)

// Names of the control plane's programs.
const (
	etcd              = "etcd"
	apiServer         = "kube-apiserver"
	controllerManager = "kube-controller-manager"
	kubectl           = "kubectl"
)

// Options says what to start a cluster from.
type Options struct {
	// Assets is the folder that holds etcd, kube-apiserver, kube-controller-manager and kubectl.
	Assets string
	// Folder is where the cluster keeps its files and logs.
	Folder string
	// CRDs are files or folders with kinds that the controllers know from their start; they notice later ones within 30 s.
	CRDs []string
	// Audited is a user whose requests the API server writes down; empty: nobody's.
	Audited string
	// Nodes says that kubelets are to join. The API server then listens on port 443, for which one must be root.
	Nodes bool
	// OnEnd learns of a controller manager that ended by itself.
	OnEnd func(error)
}

// Programs lists the files that a folder of assets must hold.
func Programs(assets string) []string {
	var files []string
	for _, name := range []string{etcd, apiServer, controllerManager, kubectl} {
		files = append(files, filepath.Join(assets, name))
	}
	return files
}

// Cluster is a control plane: etcd, kube-apiserver and kube-controller-manager.
type Cluster struct {
	client.Client
	// Config is the cluster administrator's, as are Client and Kubeconfig, a file.
	Config     *rest.Config
	Kubeconfig string
	// Kubectl is a program that fits the API server.
	Kubectl string
	// Version is the API server's.
	Version string

	options     Options
	environment *envtest.Environment
	controllers *Process
}

// Start starts a control plane. On an error nothing is left running.
func Start(ctx context.Context, o Options) (*Cluster, error) {
	c := &Cluster{options: o, Kubectl: filepath.Join(o.Assets, kubectl), Kubeconfig: filepath.Join(o.Folder, "kubeconfig")}
	var err error
	if c.environment, err = newEnvironment(o); err != nil {
		return nil, err
	}
	if c.Config, err = c.environment.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("starting etcd and kube-apiserver: %w", err), c.Stop())
	}
	if err := c.complete(ctx); err != nil {
		return nil, errors.Join(err, c.Stop())
	}
	return c, nil
}

// Connect takes a cluster that runs already, by its administrator's kubeconfig. Stop leaves it alone.
func Connect(kubeconfig string, o Options) (*Cluster, error) {
	c := &Cluster{options: o, Kubectl: filepath.Join(o.Assets, kubectl), Kubeconfig: kubeconfig}
	var err error
	if c.Config, err = clientcmd.BuildConfigFromFlags("", kubeconfig); err != nil {
		return nil, fmt.Errorf("reading the kubeconfig: %w", err)
	}
	if err := c.ask(); err != nil {
		return nil, err
	}
	return c, nil
}

// newEnvironment describes etcd and kube-apiserver. Their data stay in folders of ours, so that they can be started
// again, and each is started by a script that leaves us its process id.
func newEnvironment(o Options) (*envtest.Environment, error) {
	output, err := os.Create(filepath.Join(o.Folder, apiServer+".log"))
	if err != nil {
		return nil, fmt.Errorf("making a log for the API server: %w", err)
	}
	for _, folder := range []string{o.certificates(), o.data()} {
		if err := os.MkdirAll(folder, secretFolderMode); err != nil {
			return nil, fmt.Errorf("making a folder for the cluster: %w", err)
		}
	}
	store, storeErr := o.launcher(etcd)
	server, serverErr := o.launcher(apiServer)
	if err := errors.Join(storeErr, serverErr); err != nil {
		return nil, err
	}
	plane := envtest.ControlPlane{
		Etcd:      &envtest.Etcd{Path: store, DataDir: o.data()},
		APIServer: &envtest.APIServer{Path: server, CertDir: o.certificates(), Out: output, Err: output},
	}
	// As strict as a cluster can be about owner references: the manager must be allowed to block a deletion.
	plane.APIServer.Configure().Append("enable-admission-plugins", "OwnerReferencesPermissionEnforcement")
	if err := errors.Join(o.audit(plane.APIServer), o.welcomeNodes(plane.APIServer)); err != nil {
		return nil, err
	}
	return &envtest.Environment{
		CRDDirectoryPaths: o.CRDs, ErrorIfCRDPathMissing: true,
		BinaryAssetsDirectory: o.Assets, ControlPlane: plane, ControlPlaneStartTimeout: StartWithin, ControlPlaneStopTimeout: stopWithin,
	}, nil
}

func (o Options) certificates() string            { return filepath.Join(o.Folder, "certificates") }
func (o Options) data() string                    { return filepath.Join(o.Folder, "data") }
func (o Options) processID(program string) string { return filepath.Join(o.Folder, program+".pid") }

// launcher writes a script that notes its process id and becomes the program.
func (o Options) launcher(program string) (string, error) {
	assets, err := filepath.Abs(o.Assets)
	if err != nil {
		return "", fmt.Errorf("finding %s: %w", program, err)
	}
	script := filepath.Join(o.Folder, program+".sh")
	text := fmt.Sprintf("#!/bin/sh\necho $$ > %q\nexec %q \"$@\"\n", o.processID(program), filepath.Join(assets, program))
	if err := os.WriteFile(script, []byte(text), programMode); err != nil {
		return "", fmt.Errorf("writing a script to start %s: %w", program, err)
	}
	return script, nil
}

// complete adds what needs the API server: clients and controllers.
func (c *Cluster) complete(ctx context.Context) error {
	if err := c.ask(); err != nil {
		return err
	}
	if err := os.WriteFile(c.Kubeconfig, c.environment.KubeConfig, secretFileMode); err != nil {
		return fmt.Errorf("writing the kubeconfig: %w", err)
	}
	return c.startControllers(ctx)
}

// ask makes the clients.
func (c *Cluster) ask() error {
	kinds := runtime.NewScheme()
	if err := errors.Join(scheme.AddToScheme(kinds), v1alpha1.AddToScheme(kinds)); err != nil {
		return fmt.Errorf("registering kinds: %w", err)
	}
	var err error
	if c.Client, err = client.New(c.Config, client.Options{Scheme: kinds}); err != nil {
		return fmt.Errorf("making a client: %w", err)
	}
	asked, err := discovery.NewDiscoveryClientForConfig(c.Config)
	if err != nil {
		return fmt.Errorf("making a client: %w", err)
	}
	version, err := asked.ServerVersion()
	if err != nil {
		return fmt.Errorf("asking for the API server's version: %w", err)
	}
	c.Version = version.GitVersion
	return nil
}

// ApplyAll applies objects as `kubectl apply --server-side` does. Kinds that have just been defined take a moment.
func (c *Cluster) ApplyAll(ctx context.Context, objects ...*unstructured.Unstructured) error {
	for _, object := range objects {
		err := Eventually(ctx, StartWithin, func() (string, error) {
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

// Ask runs kubectl as cluster administrator and returns what it printed.
func (c *Cluster) Ask(ctx context.Context, arguments ...string) (string, error) {
	return Run(ctx, c.Kubectl, append([]string{"--kubeconfig", c.Kubeconfig}, arguments...)...)
}

// Stop ends everything, the API server's clients first, and deletes its data and its keys.
func (c *Cluster) Stop() error {
	if c.environment == nil {
		return nil // it is not ours
	}
	if c.controllers != nil {
		c.controllers.Stop()
	}
	var faults []error
	if err := c.environment.Stop(); err != nil {
		faults = append(faults, fmt.Errorf("stopping etcd and kube-apiserver: %w", err))
	}
	return errors.Join(append(faults, os.RemoveAll(c.options.certificates()), os.RemoveAll(c.options.data()))...)
}
