// Package node starts a whole Kubernetes cluster of one node on this machine, as root and on Linux: a control plane, a
// scheduler, a kubelet and a container runtime. There is no network plugin, so pods use the node's network and tolerate
// that the node is not ready. Nothing listens beyond the loopback interface, and everything lives in one folder.
package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/mqtt-token-operator/mqtt-token-operator/test/cluster"
)

const (
	// name is the node's; nobody resolves it.
	name = "node"

	containerd = "containerd"
	shim       = "containerd-shim-runc-v2"
	ctr        = "ctr"
	kubelet    = "kubelet"
	scheduler  = "kube-scheduler"
	runc       = "runc"

	folderMode = 0o700
	fileMode   = 0o600
	// joinWithin is how long the node may take to join.
	joinWithin = time.Minute
)

// Options says what to start a node from.
type Options struct {
	// Assets is the folder that holds the Kubernetes programs, Runtime the one with containerd, its shim and ctr. runc is
	// found in PATH.
	Assets, Runtime string
	// Folder is where everything lives. Its name must be short: it becomes part of the names of sockets.
	Folder string
	// Sandbox is the archive of an image, named SandboxImage, that holds a pod's namespaces open.
	Sandbox string
	// OnEnd learns of a part that ended by itself.
	OnEnd func(error)
}

// SandboxImage is the name of the image that each pod begins with.
const SandboxImage = "localhost/pause:e2e"

// Node is a cluster of one node.
type Node struct {
	*cluster.Cluster

	options                     Options
	runtime, kubelet, scheduler *cluster.Process
}

// Start starts a cluster and waits until its node has joined. On an error nothing is left running or mounted.
func Start(ctx context.Context, o Options) (*Node, error) {
	n := &Node{options: o}
	for _, start := range []func(context.Context) error{n.startControlPlane, n.startRuntime, n.startKubelet, n.awaitNode} {
		if err := start(ctx); err != nil {
			return nil, errors.Join(err, n.Stop(context.WithoutCancel(ctx)))
		}
	}
	return n, nil
}

func (n *Node) startControlPlane(ctx context.Context) error {
	var err error
	n.Cluster, err = cluster.Start(ctx, cluster.Options{Assets: n.options.Assets, Folder: n.options.Folder, WithNodes: true, OnEnd: n.options.OnEnd})
	if err != nil {
		return err
	}
	kubeconfig, err := n.Identify(scheduler, "system:kube-scheduler")
	if err != nil {
		return err
	}
	n.scheduler, err = n.run(ctx, n.options.Assets, scheduler, "--kubeconfig="+kubeconfig, "--leader-elect=false", "--secure-port=0")
	return err
}

// startRuntime starts containerd and gives it the image that every pod needs.
func (n *Node) startRuntime(ctx context.Context) error {
	config, err := n.runtimeConfig()
	if err != nil {
		return err
	}
	if n.runtime, err = n.run(ctx, n.options.Runtime, containerd, "--config="+config); err != nil {
		return err
	}
	err = cluster.Eventually(ctx, cluster.StartWithin, func() (string, error) {
		if _, err := n.ctr(ctx, "version"); err != nil {
			return err.Error(), nil //nolint:nilerr // it is starting
		}
		return "", nil
	})
	if err != nil {
		return fmt.Errorf("starting containerd: %w", err)
	}
	return n.Import(ctx, n.options.Sandbox)
}

// Import makes the image of an archive available to pods that do not pull theirs.
func (n *Node) Import(ctx context.Context, archive string) error {
	if _, err := n.ctr(ctx, "--namespace=k8s.io", "images", "import", "--local", "--snapshotter=native", archive); err != nil {
		return fmt.Errorf("importing an image: %w", err)
	}
	return nil
}

func (n *Node) startKubelet(ctx context.Context) error {
	kubeconfig, err := n.Identify(kubelet, "system:node:"+name, "system:nodes")
	if err != nil {
		return err
	}
	config, err := n.kubeletConfig()
	if err != nil {
		return err
	}
	n.kubelet, err = n.run(ctx, n.options.Assets, kubelet, "--config="+config, "--kubeconfig="+kubeconfig, "--hostname-override="+name,
		"--root-dir="+n.path(kubelet), "--cert-dir="+n.path("kubelet-certificates"))
	return err
}

// awaitNode waits for the kubelet to register. The node never becomes ready: there is no network plugin.
func (n *Node) awaitNode(ctx context.Context) error {
	err := cluster.Eventually(ctx, joinWithin, func() (string, error) {
		var nodes corev1.NodeList
		if err := n.List(ctx, &nodes); err != nil {
			return "", err
		}
		if len(nodes.Items) == 0 {
			return "no node has joined", nil
		}
		return "", nil
	})
	if err != nil {
		return fmt.Errorf("%w; the end of %s:\n%s", err, n.kubelet.Log, n.kubelet.Tail(20))
	}
	return nil
}

func (n *Node) run(ctx context.Context, folder, program string, arguments ...string) (*cluster.Process, error) {
	return cluster.StartProcess(ctx, cluster.Command{
		Name: program, Path: filepath.Join(folder, program), Arguments: arguments, LogFolder: n.options.Folder,
		Environment: []string{"PATH=" + n.options.Runtime + string(os.PathListSeparator) + os.Getenv("PATH")},
	}, n.options.OnEnd)
}

func (n *Node) ctr(ctx context.Context, arguments ...string) (string, error) {
	return cluster.Run(ctx, filepath.Join(n.options.Runtime, ctr), append([]string{"--address=" + n.socket()}, arguments...)...)
}

func (n *Node) path(name string) string { return filepath.Join(n.options.Folder, name) }
func (n *Node) socket() string          { return n.path("containerd.sock") }

// Logs is the folder in which the output of containers is, as namespace_pod_uid/container/0.log.
func (n *Node) Logs() string { return n.path("pods") }
