package install_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/mqtt-token-operator/mqtt-token-operator/test/apiserver"
	"github.com/mqtt-token-operator/mqtt-token-operator/test/cluster"
)

// startCluster starts a cluster with a folder of its own.
func startCluster(t *testing.T) *cluster.Cluster {
	t.Helper()
	own, err := os.MkdirTemp(folder, "")
	must(t, err)
	c, err := cluster.Start(t.Context(), cluster.Options{
		Assets: assets(), Folder: own, CRDs: []string{filepath.Join(apiserver.Root(), "config", "crd", "bases")}, OnEnd: func(err error) { t.Error(err) },
	})
	must(t, err)
	t.Cleanup(func() { must(t, c.Stop()) })
	return c
}
