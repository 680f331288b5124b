package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/pflag"
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
	for _, name := range []string{
		filepath.Join(o.assets, "etcd"), filepath.Join(o.assets, "kube-apiserver"), o.controllerManager(), o.kubectl(), o.manager,
		filepath.Join(o.installation(), kustomization), filepath.Join(o.samples(), kustomization),
	} {
		if _, err := os.Stat(name); err != nil {
			faults = append(faults, fmt.Errorf("something is missing: %w", err))
		}
	}
	return errors.Join(faults...)
}

func (o *options) controllerManager() string {
	return filepath.Join(o.assets, "kube-controller-manager")
}
func (o *options) kubectl() string      { return filepath.Join(o.assets, "kubectl") }
func (o *options) installation() string { return filepath.Join(o.config, "default") }
func (o *options) samples() string      { return filepath.Join(o.config, "samples") }
