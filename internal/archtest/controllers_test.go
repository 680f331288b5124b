package archtest_test

import (
	"go/ast"
	"go/token"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const maxReconcileLines = 40

func TestReconcileIsATableOfContents(t *testing.T) {
	for _, f := range productionFiles(t, "controllers") {
		inspect(f, func(function *ast.FuncDecl) {
			if function.Recv == nil || function.Name.Name != "Reconcile" {
				return
			}
			if n := f.lines(function); n > maxReconcileLines {
				t.Errorf("%s: Reconcile takes %d lines, at most %d: observe, decide, act, report", f.at(function), n, maxReconcileLines)
			}
		})
	}
}

func TestConditionsAreSetInOneFile(t *testing.T) {
	setters := map[string]bool{}
	for _, folder := range []string{"api", "cmd", "controllers", "internal", "pkg"} {
		for _, f := range productionFiles(t, folder) {
			inspect(f, func(literal *ast.CompositeLit) {
				if isSelector(literal.Type, "metav1", "Condition") {
					setters[f.name] = true
				}
			})
		}
	}
	if len(setters) > 1 {
		t.Errorf("metav1.Condition{} is written in %d files, want the one setter: %v", len(setters), setters)
	}
}

func TestEachControllerWritesStatusOnce(t *testing.T) {
	writes := map[string][]string{}
	for _, f := range productionFiles(t, "controllers") {
		family, _, _ := strings.Cut(path.Base(f.name), "_")
		inspect(f, func(selector *ast.SelectorExpr) {
			if call, ok := selector.X.(*ast.CallExpr); ok && calledMethod(call) == "Status" {
				writes[family] = append(writes[family], f.at(call).String())
			}
		})
	}
	for family, places := range writes {
		if len(places) > 1 {
			t.Errorf("the %s controller writes status in %d places, want one that also runs on error: %v", family, len(places), places)
		}
	}
}

func TestRequeueingIsAnErrorOrAMoment(t *testing.T) {
	for _, f := range productionFiles(t, "controllers") {
		inspect(f, func(pair *ast.KeyValueExpr) {
			if isIdent(pair.Key, "Requeue") {
				t.Errorf("%s: return the error or set RequeueAfter; Requeue is neither", f.at(pair))
			}
		})
	}
}

// A reason is a word of the API: a script that waits for it must find it documented.
func TestReasonsAreConstantsOfTheAPI(t *testing.T) {
	documented := documentedWords(t)
	for _, f := range productionFiles(t, "controllers") {
		inspect(f, func(literal *ast.BasicLit) {
			text, _ := stringLiteral(literal)
			if name, known := documented[text]; known {
				t.Errorf("%s: %q is api's %s; use the constant", f.at(literal), text, name)
			}
		})
		inspect(f, func(pair *ast.KeyValueExpr) {
			if _, literal := stringLiteral(pair.Value); literal && isIdent(pair.Key, "Reason") {
				t.Errorf("%s: a reason must be a constant of api", f.at(pair))
			}
		})
		inspect(f, func(call *ast.CallExpr) {
			if slices.Contains([]string{"Event", "Eventf", "AnnotatedEventf"}, calledMethod(call)) && slices.ContainsFunc(call.Args, looksLikeReason) {
				t.Errorf("%s: an event's reason must be a constant of api", f.at(call))
			}
		})
	}
}

// documentedWords maps the value of every condition and reason constant in api to its name.
func documentedWords(t *testing.T) map[string]string {
	t.Helper()
	words := map[string]string{}
	for _, f := range productionFiles(t, "api") {
		inspect(f, func(spec *ast.ValueSpec) {
			for i, name := range spec.Names {
				isWord := strings.HasPrefix(name.Name, "Reason") || strings.HasPrefix(name.Name, "Condition")
				if !isWord || i >= len(spec.Values) {
					continue
				}
				if text, ok := stringLiteral(spec.Values[i]); ok {
					words[text] = name.Name
				}
			}
		})
	}
	return words
}

var camelCase = regexp.MustCompile(`^([A-Z][a-z]+)+$`)

func looksLikeReason(argument ast.Expr) bool {
	text, ok := stringLiteral(argument)
	return ok && camelCase.MatchString(text)
}

// stringLiteral returns the text of a string literal and whether the node is one.
func stringLiteral(node ast.Expr) (string, bool) {
	literal, ok := node.(*ast.BasicLit)
	if !ok || literal.Kind != token.STRING {
		return "", false
	}
	text, err := strconv.Unquote(literal.Value)
	return text, err == nil
}

func isIdent(node ast.Node, name string) bool {
	ident, ok := node.(*ast.Ident)
	return ok && ident.Name == name
}

func isSelector(node ast.Node, pkg, name string) bool {
	selector, ok := node.(*ast.SelectorExpr)
	return ok && selector.Sel.Name == name && isIdent(selector.X, pkg)
}
