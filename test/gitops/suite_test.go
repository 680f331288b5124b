// Package gitops_test asks as GitOps tools do what became of an object: kstatus, Argo CD's Lua and Flux's CEL must agree.
package gitops_test

import "testing"

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
