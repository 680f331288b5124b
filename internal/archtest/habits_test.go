package archtest_test

import (
	"go/ast"
	"path"
	"slices"
	"strings"
	"testing"
)

const maxMainLines = 60

func TestMainOnlyWires(t *testing.T) {
	for _, f := range productionFiles(t, "cmd") {
		if n := f.fset.File(f.ast.Pos()).LineCount(); path.Base(f.name) == "main.go" && n > maxMainLines {
			t.Errorf("%s has %d lines, at most %d: move them to options.go and run.go", f.name, n, maxMainLines)
		}
	}
}

func TestASkippedTestSaysWhy(t *testing.T) {
	for _, f := range goFiles(t, ".") {
		inspect(f, func(call *ast.CallExpr) {
			switch method := calledMethod(call); {
			case f.isTest() && method == "SkipNow", f.isTest() && method == "Skip" && len(call.Args) == 0:
				t.Errorf("%s: a test that skips must say what is missing", f.at(call))
			}
		})
	}
}

// An error's text is for people; a library may reword it in a patch release.
func TestErrorsAreNotMatchedByText(t *testing.T) {
	matchers := []string{"Contains", "HasPrefix", "HasSuffix", "EqualFold", "MatchString", "Index"}
	for _, folder := range []string{"api", "cmd", "controllers", "internal", "pkg"} {
		for _, f := range productionFiles(t, folder) {
			inspect(f, func(call *ast.CallExpr) {
				if slices.Contains(matchers, calledMethod(call)) && slices.ContainsFunc(call.Args, isErrorText) {
					t.Errorf("%s: use errors.Is or errors.As", f.at(call))
				}
			})
			inspect(f, func(comparison *ast.BinaryExpr) {
				if isErrorText(comparison.X) || isErrorText(comparison.Y) {
					if op := comparison.Op.String(); op == "==" || op == "!=" {
						t.Errorf("%s: use errors.Is or errors.As", f.at(comparison))
					}
				}
			})
		}
	}
}

func isErrorText(node ast.Expr) bool {
	call, ok := node.(*ast.CallExpr)
	return ok && calledMethod(call) == "Error" && len(call.Args) == 0
}

// Exceptions to the API conventions have a way of becoming the convention.
func TestTheAPIHasNoLinterExceptions(t *testing.T) {
	for _, f := range productionFiles(t, "api") {
		for _, group := range f.ast.Comments {
			for _, comment := range group.List {
				if strings.Contains(comment.Text, "nolint") {
					t.Errorf("%s: fix the field instead", f.at(comment))
				}
			}
		}
	}
}
