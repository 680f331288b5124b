// Package node starts a whole Kubernetes cluster on this machine, with one node that runs pods: the control plane of package
// cluster, a scheduler, and containerd with a kubelet.
//
// Containerd, the kubelet and all that they start live in a cell: a process and a mount namespace of their own. The kernel
// ends everything in it, mounts included, when its first process ends, and that one ends with the process that started it.
// Nothing is mounted, and no kernel setting changed, outside of it.
//
// There is no network for pods: they run on the node's, with hostNetwork, and find the API server as pods do. Nor is there
// kube-proxy or DNS. Images come from files.
package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/mqtt-token-operator/mqtt-token-operator/test/cluster"
)

const (
	// Name is the node's. A kubelet takes a name that is an address for its own, which can be on loopback only this way.
	Name = "127.0.0.1"
	// PauseImage is the image that holds pods together.
	PauseImage = "localhost/pause:e2e"

	// startWithin is how long the node may take to come up.
	startWithin = 2 * time.Minute
	folderMode  = 0o755
	fileMode    = 0o600
)

// Programs of the node.
const (
	kubelet    = "kubelet"
	scheduler  = "kube-scheduler"
	containerd = "containerd"
	ctr        = "ctr"
)

// Options says what to start a cluster from.
type Options struct {
	// Kubernetes is the folder that `hack/kube/assets.sh kube-scheduler kubelet` prints.
	Kubernetes string
	// Containerd is the folder that hack/containerd/assets.sh prints.
	Containerd string
	// Pause is an OCI archive of PauseImage.
	Pause string
	// Folder is where everything is kept. It must be neither below /run nor below /var/log.
	Folder string
	// Existing is a kubeconfig of a cluster to use instead of starting one; Kubernetes and Folder still count.
	Existing string
	// OnEnd learns of a part of the cluster that ended by itself.
	OnEnd func(error)
}

// Node is a cluster that runs pods.
type Node struct {
	*cluster.Cluster

	options   Options
	scheduler *cluster.Process
	cell      *cell
}

// Start starts a cluster, or connects to the existing one, and returns when the node is ready. On an error nothing is left
// running.
func Start(ctx context.Context, o Options) (*Node, error) {
	if o.Existing != "" {
		return connect(ctx, o)
	}
	if err := o.complete(); err != nil {
		return nil, err
	}
	plane, err := cluster.Start(ctx, cluster.Options{Assets: o.Kubernetes, Folder: o.Folder, Nodes: true, OnEnd: o.OnEnd})
	if err != nil {
		return nil, err
	}
	n := &Node{Cluster: plane, options: o}
	if err := n.start(ctx); err != nil {
		return nil, errors.Join(err, n.Stop())
	}
	return n, nil
}

func connect(ctx context.Context, o Options) (*Node, error) {
	existing, err := cluster.Connect(o.Existing, cluster.Options{Assets: o.Kubernetes, Folder: o.Folder})
	if err != nil {
		return nil, err
	}
	n := &Node{Cluster: existing, options: o}
	if err := n.awaitReady(ctx); err != nil {
		return nil, err
	}
	return n, nil
}

// Ours tells whether the cluster was started here. One that was not has a network for pods, and pulls its images.
func (n *Node) Ours() bool { return n.options.Existing == "" }

func (n *Node) start(ctx context.Context) error {
	kubeconfig, err := n.IdentityFile(scheduler, "system:kube-scheduler")
	if err != nil {
		return err
	}
	n.scheduler, err = cluster.StartProcess(ctx, cluster.Command{
		Name: scheduler, Path: filepath.Join(n.options.Kubernetes, scheduler), LogFolder: n.options.Folder,
		Arguments: []string{"--kubeconfig=" + kubeconfig, "--leader-elect=false", "--secure-port=0"},
	}, n.options.OnEnd)
	if err != nil {
		return err
	}
	if kubeconfig, err = n.IdentityFile(kubelet, "system:node:"+Name, "system:nodes"); err != nil {
		return err
	}
	clientCertificate := cluster.Options{Folder: n.options.Folder}.KubeletClientCertificate()
	if n.cell, err = startCell(ctx, n.options, kubeconfig, clientCertificate); err != nil {
		return err
	}
	if err := n.LoadImage(ctx, n.options.Pause); err != nil {
		return err
	}
	return n.awaitReady(ctx)
}

// awaitReady waits until a node runs pods.
func (n *Node) awaitReady(ctx context.Context) error {
	err := cluster.Eventually(ctx, startWithin, func() (string, error) {
		var nodes corev1.NodeList
		if err := n.List(ctx, &nodes); err != nil {
			return "", err
		}
		missing := "no node"
		for i := range nodes.Items {
			if missing = unready(&nodes.Items[i]); missing == "" {
				return "", nil
			}
		}
		return missing, nil
	})
	if err != nil && n.cell != nil {
		return fmt.Errorf("waiting for the node: %w\n%s", err, n.cell.process.Tail(tailLines))
	}
	return err
}

// unready says why a node takes no pods.
func unready(node *corev1.Node) string {
	for _, taint := range node.Spec.Taints {
		if taint.Effect != corev1.TaintEffectPreferNoSchedule {
			return fmt.Sprintf("node %s has taint %s", node.Name, taint.Key)
		}
	}
	for _, condition := range node.Status.Conditions {
		if condition.Type == corev1.NodeReady && condition.Status == corev1.ConditionTrue {
			return ""
		}
	}
	return fmt.Sprintf("node %s is not ready", node.Name)
}

// LoadImage gives the node an image from an OCI archive, as hack/image writes it. A pod must not ask for `imagePullPolicy:
// Always`. An existing cluster pulls its images, so that they must be where it can.
func (n *Node) LoadImage(ctx context.Context, archive string) error {
	if !n.Ours() {
		return fmt.Errorf("loading %s: the cluster of %s must pull its images from a registry", archive, n.options.Existing)
	}
	path, err := filepath.Abs(archive)
	if err != nil {
		return fmt.Errorf("loading %s: %w", archive, err)
	}
	return n.cell.load(ctx, path)
}

// Stop ends the cluster, pods first, and leaves nothing of it but logs. It does nothing to an existing one.
func (n *Node) Stop() error {
	var faults []error
	if n.cell != nil {
		faults = append(faults, n.cell.stop())
	}
	if n.scheduler != nil {
		n.scheduler.Stop()
	}
	return errors.Join(append(faults, n.Cluster.Stop())...)
}

// complete checks what a node needs and returns all that is not as it must be.
func (o Options) complete() error {
	var faults []error
	if os.Geteuid() != 0 {
		faults = append(faults, errors.New("a node can be started by root only; or name a cluster by E2E_KUBECONFIG"))
	}
	for _, hidden := range []string{"/run/", "/var/run/", "/var/log/"} {
		if strings.HasPrefix(o.Folder+"/", hidden) {
			faults = append(faults, fmt.Errorf("the folder %s is below %s, which the node has for itself", o.Folder, hidden))
		}
	}
	if !filepath.IsAbs(o.Folder) {
		faults = append(faults, fmt.Errorf("the folder %q must be an absolute path", o.Folder))
	}
	needed := append(cluster.Programs(o.Kubernetes), o.Pause, filepath.Join(o.Kubernetes, kubelet), filepath.Join(o.Kubernetes, scheduler),
		filepath.Join(o.Containerd, containerd), filepath.Join(o.Containerd, ctr))
	for _, name := range needed {
		if _, err := os.Stat(name); err != nil {
			faults = append(faults, fmt.Errorf("something is missing: %w", err))
		}
	}
	return errors.Join(append(faults, installed()...)...)
}
