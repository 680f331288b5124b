package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/pflag"

	"github.com/mqtt-token-operator/mqtt-token-operator/test/cluster"
)

// options is the command line.
type options struct {
	assets  string
	manager string
	config  string
	minutes float64
	seed    uint64
	only    []string
}

func (o *options) addFlags(flags *pflag.FlagSet) {
	flags.StringVar(&o.assets, "assets", "", "folder with etcd, kube-apiserver, kube-controller-manager and kubectl")
	flags.StringVar(&o.manager, "manager", "bin/manager-killpoints", "the manager's binary, built with the tag killpoints")
	flags.StringVar(&o.config, "config", "config", "folder with the manifests: what its default/ names is applied")
	flags.Float64Var(&o.minutes, "minutes", 10, "how long faults are injected; setting up and looking back come on top")
	flags.Uint64Var(&o.seed, "seed", 0, "what decides the schedule; 0 draws one")
	flags.StringSliceVar(&o.only, "only", nil, "inject these faults alone")
}

// complete checks that everything is there and returns all that is not.
func (o *options) complete() error {
	var faults []error
	if o.seed == 0 {
		o.seed = uint64(rand.Uint32())
	}
	if o.minutes <= 0 {
		faults = append(faults, fmt.Errorf("--minutes: %v is no time", o.minutes))
	}
	for _, name := range o.only {
		if !isKind(kind(name)) {
			faults = append(faults, fmt.Errorf("--only: there is no fault %q", name))
		}
	}
	if o.assets == "" {
		faults = append(faults, errors.New("--assets: it is empty; `make kube-assets` prints the folder"))
	}
	for _, name := range append(cluster.Programs(o.assets), o.manager, filepath.Join(o.installation(), cluster.Kustomization)) {
		if _, err := os.Stat(name); err != nil {
			faults = append(faults, fmt.Errorf("something is missing: %w", err))
		}
	}
	return errors.Join(faults...)
}

func (o *options) length() time.Duration { return time.Duration(o.minutes * float64(time.Minute)) }

func (o *options) installation() string { return filepath.Join(o.config, "default") }
