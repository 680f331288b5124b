// Package install_test does what people do who run the operator: apply what is shipped, upgrade it, and take it away again
// in the right and in the wrong order, under the manager's own process with the rights that it ships with.
package install_test

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

// folder holds the manager's program, logs and kubeconfigs.
var folder string

func TestMain(m *testing.M) {
	code, err := runSuite(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func runSuite(m *testing.M) (code int, err error) {
	if assets() == "" {
		return 0, errors.New("KUBEBUILDER_ASSETS is not set: run these tests by `make test`, which builds the control plane on first use")
	}
	ctrl.SetLogger(logr.Discard())
	if folder, err = os.MkdirTemp("", "mqtt-token-install-"); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	if _, err := cluster.Run(context.Background(), "go", "-C", apiserver.Root(), "build", "-trimpath", "-o", program(), "./cmd/manager"); err != nil {
		return 0, err
	}
	return m.Run(), nil
}

func assets() string { return os.Getenv("KUBEBUILDER_ASSETS") }

func program() string { return filepath.Join(folder, "manager") }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
