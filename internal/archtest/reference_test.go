package archtest_test

import (
	"go/ast"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

const (
	grantPage     = "docs/mqtttokengrant.md"
	instancePage  = "docs/mqttinstance.md"
	installPage   = "docs/install.md"
	simulatorPage = "docs/simulator.md"
	wordsFile     = "api/v1alpha1/conditions.go"
)

var fieldPath = regexp.MustCompile(`^(spec|status)(\.[A-Za-z]+(\[\])?)+$`)

// kindPage is where a kind is defined and which code writes its conditions.
type kindPage struct {
	crd  string
	code []string
}

func kindPages() map[string]kindPage {
	return map[string]kindPage{
		grantPage: {
			crd:  "config/crd/bases/mqtt.tokengrant.dev_mqtttokengrants.yaml",
			code: []string{"controllers/grant_*.go", "controllers/conditions.go"},
		},
		instancePage: {
			crd: "config/crd/bases/mqtt.tokengrant.dev_mqttinstances.yaml",
			code: []string{
				"controllers/instance_*.go", "controllers/credential.go", "controllers/endpoint.go", "controllers/faults.go",
				"controllers/conditions.go",
			},
		},
	}
}

func TestEveryFieldIsOnThePageOfItsKind(t *testing.T) {
	for page, kind := range kindPages() {
		named := codeSpans(read(t, page))
		for _, field := range fieldsOf(t, kind.crd) {
			if !named[field] {
				t.Errorf("%s does not name the field %s", page, field)
			}
		}
	}
}

func TestFieldsNamedInDocumentsExist(t *testing.T) {
	known := map[string]bool{}
	for _, kind := range kindPages() {
		for _, field := range fieldsOf(t, kind.crd) {
			known[field] = true
		}
	}
	for name, text := range documents(t) {
		for span := range codeSpans(text) {
			if fieldPath.MatchString(span) && !known[span] && !known[span+"[]"] && !strings.HasPrefix(name, "docs/adr/") {
				t.Errorf("%s names the field %s, which does not exist", name, span)
			}
		}
	}
}

func TestEveryConditionReasonAndEventIsOnThePageOfItsKind(t *testing.T) {
	words := stringConstants(t, wordsFile)
	unwritten := maps.Clone(words)
	for page, kind := range kindPages() {
		named := codeSpans(read(t, page))
		for constant := range constantsUsed(t, kind.code...) {
			if word, ours := words[constant]; ours && !named[word] {
				t.Errorf("%s does not name %s, which the code writes", page, word)
			}
		}
		maps.DeleteFunc(unwritten, func(_, word string) bool { return named[word] })
	}
	for constant, word := range unwritten {
		t.Errorf("no page names %s (%s)", word, constant)
	}
}

func TestEverySecretKeyIsOnTheGrantsPage(t *testing.T) {
	named := codeSpans(read(t, grantPage))
	for constant, key := range stringConstants(t, "pkg/mqttcred/keys.go") {
		if !named[key] {
			t.Errorf("%s does not name the key %s (%s)", grantPage, key, constant)
		}
	}
}

func TestEveryFlagIsDocumented(t *testing.T) {
	for page, folder := range map[string]string{installPage: "cmd/manager", simulatorPage: "cmd/simulator"} {
		named := codeSpans(read(t, page))
		flags := argumentsOf(t, folder, 1, func(call *ast.CallExpr) bool { return strings.HasSuffix(calledMethod(call), "Var") })
		if len(flags) == 0 {
			t.Errorf("%s defines no flag that this test understands", folder)
		}
		for _, flag := range flags {
			if !named["--"+flag] {
				t.Errorf("%s does not name --%s", page, flag)
			}
		}
	}
}

func TestEveryAdminEndpointIsDocumented(t *testing.T) {
	named := codeSpans(read(t, simulatorPage))
	for _, pattern := range argumentsOf(t, "internal/simulator", 0, func(call *ast.CallExpr) bool { return calledMethod(call) == "HandleFunc" }) {
		if !named[pattern] {
			t.Errorf("%s does not name %s", simulatorPage, pattern)
		}
	}
}

func TestEveryDecisionIsInTheIndex(t *testing.T) {
	index := read(t, "docs/adr/README.md")
	for _, name := range namesBelow(t, "docs/adr", ".md") {
		if base := path.Base(name); base != "README.md" && !strings.Contains(index, "("+base+")") {
			t.Errorf("docs/adr/README.md does not link to %s", base)
		}
	}
}

func codeSpans(text string) map[string]bool {
	spans := map[string]bool{}
	for _, match := range codeSpan.FindAllStringSubmatch(text, -1) {
		spans[match[1]] = true
	}
	return spans
}

// schema is as much of a CRD's schema as is needed to list its fields.
type schema struct {
	Properties map[string]schema `json:"properties"`
	Items      *schema           `json:"items"`
}

// fieldsOf lists the paths of a CRD's fields below spec and status.
func fieldsOf(t *testing.T, crd string) []string {
	t.Helper()
	var definition struct {
		Spec struct {
			Versions []struct {
				Schema struct {
					OpenAPIV3Schema schema `json:"openAPIV3Schema"`
				} `json:"schema"`
			} `json:"versions"`
		} `json:"spec"`
	}
	if err := yaml.Unmarshal([]byte(read(t, crd)), &definition); err != nil {
		t.Fatal(err)
	}
	var fields []string
	for _, version := range definition.Spec.Versions {
		for _, top := range []string{"spec", "status"} {
			fields = append(fields, version.Schema.OpenAPIV3Schema.Properties[top].paths(top)...)
		}
	}
	if len(fields) == 0 {
		t.Fatalf("%s has no fields", crd)
	}
	return fields
}

// paths lists the leaves below a node. Conditions and label selectors are Kubernetes' own and need no description.
func (s schema) paths(at string) []string {
	if s.Items != nil {
		if len(s.Items.Properties) == 0 || strings.HasSuffix(at, ".conditions") {
			return []string{at}
		}
		return s.Items.paths(at + "[]")
	}
	if len(s.Properties) == 0 || strings.HasSuffix(at, ".selector") {
		return []string{at}
	}
	var list []string
	if strings.Contains(at, ".") {
		list = append(list, at)
	}
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		list = append(list, s.Properties[name].paths(at+"."+name)...)
	}
	return list
}

// stringConstants maps the names of a file's constants to their values.
func stringConstants(t *testing.T, name string) map[string]string {
	t.Helper()
	constants := map[string]string{}
	for _, f := range goFiles(t, path.Dir(name)) {
		if f.name != name {
			continue
		}
		inspect(f, func(spec *ast.ValueSpec) {
			for i, value := range spec.Values {
				if text, ok := stringLiteral(value); ok {
					constants[spec.Names[i].Name] = text
				}
			}
		})
	}
	if len(constants) == 0 {
		t.Fatalf("%s has no constants", name)
	}
	return constants
}

// constantsUsed lists the names after a dot in the files of controllers that match one of the patterns.
func constantsUsed(t *testing.T, patterns ...string) map[string]bool {
	t.Helper()
	used, matched := map[string]bool{}, map[string]bool{}
	for _, f := range productionFiles(t, "controllers") {
		for _, pattern := range patterns {
			if ok, err := path.Match(pattern, f.name); err == nil && ok {
				matched[pattern] = true
				inspect(f, func(selector *ast.SelectorExpr) { used[selector.Sel.Name] = true })
			}
		}
	}
	if len(matched) != len(patterns) {
		t.Fatalf("of %q, only %d match any code", patterns, len(matched))
	}
	return used
}

// argumentsOf lists what certain calls in a folder's production files get as their n-th argument, where it is a text.
func argumentsOf(t *testing.T, folder string, n int, wanted func(*ast.CallExpr) bool) []string {
	t.Helper()
	var list []string
	for _, f := range productionFiles(t, folder) {
		inspect(f, func(call *ast.CallExpr) {
			if len(call.Args) <= n || !wanted(call) {
				return
			}
			if text, ok := stringLiteral(call.Args[n]); ok {
				list = append(list, text)
			}
		})
	}
	return list
}
