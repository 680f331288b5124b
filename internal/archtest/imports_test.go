package archtest_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/mqtt-token-operator/mqtt-token-operator"

// listedPackage is the part of `go list -json` that the rules need; Imports leaves tests out.
type listedPackage struct {
	ImportPath string
	Imports    []string
}

func TestEveryPackageImportsOnlyWhatItsRowAllows(t *testing.T) {
	table := importTable()
	for name, pkg := range listPackages(t) {
		row, listed := table[name]
		if !listed {
			t.Errorf("%s is not in importTable: say there why it exists and what it may import", name)
			continue
		}
		for _, imported := range pkg.Imports {
			if problem := row.problemWith(imported); problem != "" {
				t.Errorf("%s (%s) imports %q: %s", name, row.why, imported, problem)
			}
		}
	}
}

func TestEveryRowHasItsPackageAndItsReason(t *testing.T) {
	packages := listPackages(t)
	for name, row := range importTable() {
		if _, exists := packages[name]; !exists {
			t.Errorf("%s is in importTable and does not exist: did it move?", name)
		}
		if row.why == "" {
			t.Errorf("%s has no reason to exist", name)
		}
	}
}

func TestRowsRefuse(t *testing.T) {
	row := rule{ours: []string{"internal/topic"}, third: []string{"k8s.io/api"}, never: []string{"net"}}
	for imported, wantAllowed := range map[string]bool{
		"strings":                         true,
		"net":                             false,
		"net/http":                        false,
		"k8s.io/api/core/v1":              true,
		"k8s.io/apimachinery/pkg/types":   false,
		module + "/internal/topic":        true,
		module + "/internal/topic/deeper": false,
		module + "/internal/token":        false,
	} {
		if got := row.problemWith(imported) == ""; got != wantAllowed {
			t.Errorf("%s: allowed %v, want %v", imported, got, wantAllowed)
		}
	}
}

// problemWith says why the rule refuses an import, or nothing.
func (r rule) problemWith(imported string) string {
	ours, isOurs := strings.CutPrefix(imported, module+"/")
	first, _, _ := strings.Cut(imported, "/")
	switch {
	case isOurs && !slices.Contains(r.ours, ours):
		return "the table does not name it"
	case isOurs:
		return ""
	case strings.Contains(first, ".") && !isBelowAny(imported, r.third):
		return "the table does not name that module"
	case isBelowAny(imported, r.never):
		return "the table rules it out"
	}
	return ""
}

func isBelowAny(imported string, prefixes []string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return imported == p || strings.HasPrefix(imported, p+"/") })
}

func listPackages(t *testing.T) map[string]listedPackage {
	t.Helper()
	command := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports", "./...")
	command.Dir = root
	var stderr bytes.Buffer
	command.Stderr = &stderr
	out, err := command.Output()
	if err != nil {
		t.Fatalf("listing packages: %v\n%s", err, &stderr)
	}
	packages := map[string]listedPackage{}
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var pkg listedPackage
		if err := decoder.Decode(&pkg); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		packages[strings.TrimPrefix(pkg.ImportPath, module+"/")] = pkg
	}
}
