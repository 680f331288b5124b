//go:build !linux

package node

import (
	"context"
	"errors"

	"github.com/mqtt-token-operator/mqtt-token-operator/test/cluster"
)

const tailLines = 20

// errNoLinux says what there is to do elsewhere.
var errNoLinux = errors.New("a node can be started on Linux only; name a cluster by E2E_KUBECONFIG")

type cell struct{ process *cluster.Process }

func startCell(context.Context, Options, string, string) (*cell, error) { return nil, errNoLinux }

func (*cell) load(context.Context, string) error { return errNoLinux }

func (*cell) stop() error { return nil }

func installed() []error { return []error{errNoLinux} }

// Leftovers finds nothing where nothing can be started.
func (*Node) Leftovers() ([]string, error) { return nil, nil }
