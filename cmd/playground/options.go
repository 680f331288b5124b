package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/pflag"

	"github.com/mqtt-token-operator/mqtt-token-operator/test/cluster"
)

// options is the command line.
type options struct {
	assets  string
	manager string
	config  string
	once    bool
}

func (o *options) addFlags(flags *pflag.FlagSet) {
	flags.StringVar(&o.assets, "assets", "", "folder with etcd, kube-apiserver, kube-controller-manager and kubectl")
	flags.StringVar(&o.manager, "manager", "bin/manager", "the manager's binary")
	flags.StringVar(&o.config, "config", "config", "folder with the manifests: what its default/ and samples/ name is applied")
	flags.BoolVar(&o.once, "once", false, "end after the story; exit 0 only if every step held")
}

// complete checks that everything is there and returns all that is not.
func (o *options) complete() error {
	var faults []error
	if o.assets == "" {
		faults = append(faults, errors.New("--assets: it is empty; `make kube-assets` prints the folder"))
	}
	needed := append(cluster.Programs(o.assets), o.manager,
		filepath.Join(o.installation(), cluster.Kustomization), filepath.Join(o.samples(), cluster.Kustomization))
	for _, name := range needed {
		if _, err := os.Stat(name); err != nil {
			faults = append(faults, fmt.Errorf("something is missing: %w", err))
		}
	}
	return errors.Join(faults...)
}

func (o *options) installation() string { return filepath.Join(o.config, "default") }
func (o *options) samples() string      { return filepath.Join(o.config, "samples") }
