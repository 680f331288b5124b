// Package deletion_test deletes everything in every way, in a cluster with the real garbage collector and namespace
// controller, under the manager's own process with exactly the rights that it ships with.
package deletion_test

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
