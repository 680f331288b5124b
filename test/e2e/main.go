// The end-to-end test installs the operator into a real cluster and lets pods speak MQTT with what it issues. It starts a
// cluster of one node for that, as root and on Linux, and tells what it sees.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/go-logr/logr"
	"github.com/spf13/pflag"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/mqtt-token-operator/mqtt-token-operator/test/cluster"
	"github.com/mqtt-token-operator/mqtt-token-operator/test/story"
)

func main() {
	var o options
	flags := pflag.NewFlagSet("e2e", pflag.ExitOnError)
	o.addFlags(flags)
	_ = flags.Parse(os.Args[1:]) //nolint:errcheck // ExitOnError
	if err := o.check(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	log.SetLogger(logr.Discard()) // what the libraries have to say is not part of the story
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	err := run(ctx, o, story.NewPrinter(os.Stdout))
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		os.Exit(1)
	}
}

// options is the command line.
type options struct {
	assets, runtime, images, config, manifests, examples string
	existing                                             string // a kubeconfig; empty: a cluster is started
}

func (o *options) addFlags(flags *pflag.FlagSet) {
	flags.StringVar(&o.assets, "assets", "", "folder with etcd, kube-apiserver, kube-controller-manager, kube-scheduler, kubelet and kubectl")
	flags.StringVar(&o.runtime, "runtime", "", "folder with containerd, its shim and ctr")
	flags.StringVar(&o.images, "images", "bin/images", "folder with the archives of the images that pods run")
	flags.StringVar(&o.config, "config", "test/e2e/operator", "what to install the operator from")
	flags.StringVar(&o.existing, "kubeconfig", os.Getenv("E2E_KUBECONFIG"), "a cluster to use instead of starting one: of one node that has the images")
	flags.StringVar(&o.manifests, "manifests", "test/e2e/manifests", "folder with the story's own manifests")
	flags.StringVar(&o.examples, "examples", "examples", "folder with the examples that pods run")
}

// check returns everything that is missing.
func (o *options) check() error {
	var faults []error
	needed := append(cluster.Programs(o.assets), o.config, o.manifests, o.examples)
	if o.existing == "" { // node.Start checks the rest
		for _, name := range images() {
			needed = append(needed, o.image(name))
		}
	}
	for _, name := range needed {
		if _, err := os.Stat(name); err != nil {
			faults = append(faults, fmt.Errorf("something is missing: %w", err))
		}
	}
	return errors.Join(faults...)
}

func (o *options) image(name string) string { return filepath.Join(o.images, name+".tar") }

// images are what pods run, beside the sandbox.
func images() []string { return []string{"manager", "simulator", "client", "go", "env"} }
