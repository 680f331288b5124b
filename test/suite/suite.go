// Package suite prepares suites that run the manager as a process of its own, in clusters of their own.
package suite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/go-logr/logr"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/mqtt-token-operator/mqtt-token-operator/test/apiserver"
	"github.com/mqtt-token-operator/mqtt-token-operator/test/cluster"
)

// Suite is what the tests of a package share.
type Suite struct {
	// Folder is for what outlives a test: clusters, kubeconfigs and logs of processes. It is gone after the last one.
	Folder string
	// Assets is the folder with Kubernetes' programs, Manager the manager's program.
	Assets, Manager string
}

// Main builds the manager, tells what there is, runs a package's tests and returns what to exit with. Without
// KUBEBUILDER_ASSETS it fails: these tests prove nothing on a machine that cannot run them.
func Main(m *testing.M, tell func(Suite)) int {
	code, err := run(m, tell)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

func run(m *testing.M, tell func(Suite)) (code int, err error) {
	s := Suite{Assets: os.Getenv("KUBEBUILDER_ASSETS")}
	if s.Assets == "" {
		return 0, errors.New("KUBEBUILDER_ASSETS is not set: run these tests by `make test`, which builds the control plane on first use")
	}
	ctrl.SetLogger(logr.Discard())
	if s.Folder, err = os.MkdirTemp("", "mqtt-token-suite-"); err != nil {
		return 0, fmt.Errorf("making a folder for the suite: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(s.Folder)) }()
	s.Manager = filepath.Join(s.Folder, "manager")
	if _, err := cluster.Run(context.Background(), "go", "-C", apiserver.Root(), "build", "-trimpath", "-o", s.Manager, "./cmd/manager"); err != nil {
		return 0, err
	}
	tell(s)
	return m.Run(), nil
}
