// Package install_test does what people do who run the operator: apply what is shipped, upgrade it, and take it away again
// in the right and in the wrong order, under the manager's own process with the rights that it ships with.
package install_test

import (
	"os"
	"testing"

	"github.com/mqtt-token-operator/mqtt-token-operator/test/suite"
)

// own is what these tests share.
var own suite.Suite

func TestMain(m *testing.M) {
	os.Exit(suite.Main(m, func(s suite.Suite) { own = s }))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
