// Package tenancy_test has tenants try what they must not succeed in, each with no more rights than `edit` in their own
// namespace: in a cluster that authorizes for real, against the manager's own process with the rights that it ships with.
package tenancy_test

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
