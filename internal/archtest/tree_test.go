package archtest_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"strings"
	"testing"
)

const root = "../.."

// sourceFile is one parsed Go file; its name is relative to the root, with slashes.
type sourceFile struct {
	name string
	fset *token.FileSet
	ast  *ast.File
}

func (f sourceFile) isTest() bool { return strings.HasSuffix(f.name, "_test.go") }

func (f sourceFile) at(node ast.Node) token.Position {
	position := f.fset.Position(node.Pos())
	position.Filename = f.name
	return position
}

// lines is how many lines the node takes, the first and the last included.
func (f sourceFile) lines(node ast.Node) int {
	return f.fset.Position(node.End()).Line - f.fset.Position(node.Pos()).Line + 1
}

// goFiles parses every Go file below a folder; a folder that does not exist has none.
func goFiles(t *testing.T, folder string) []sourceFile {
	t.Helper()
	var files []sourceFile
	for _, name := range namesBelow(t, folder, ".go") {
		fset := token.NewFileSet()
		parsed, err := parser.ParseFile(fset, filepath.Join(root, name), nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, sourceFile{name: name, fset: fset, ast: parsed})
	}
	return files
}

// productionFiles is goFiles without tests.
func productionFiles(t *testing.T, folder string) []sourceFile {
	t.Helper()
	var files []sourceFile
	for _, f := range goFiles(t, folder) {
		if !f.isTest() {
			files = append(files, f)
		}
	}
	return files
}

// namesBelow lists the files with an extension below a folder, without what is built or belongs to other modules.
func namesBelow(t *testing.T, folder, extension string) []string {
	t.Helper()
	var names []string
	start := filepath.Join(root, folder)
	err := filepath.WalkDir(start, func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil && name == start:
			return fs.SkipAll
		case err != nil:
			return err
		case entry.IsDir() && isForeign(root, name):
			return fs.SkipDir
		case !entry.IsDir() && path.Ext(name) == extension:
			relative, err := filepath.Rel(root, name)
			if err != nil {
				return err
			}
			names = append(names, filepath.ToSlash(relative))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func isForeign(root, folder string) bool {
	switch base := filepath.Base(folder); base {
	case "bin", "dist", "testdata", "node_modules":
		return true
	default:
		return strings.HasPrefix(base, ".") && filepath.Clean(folder) != filepath.Clean(root)
	}
}

// inspect calls visit for every node of type N.
func inspect[N ast.Node](f sourceFile, visit func(N)) {
	ast.Inspect(f.ast, func(node ast.Node) bool {
		if n, ok := node.(N); ok {
			visit(n)
		}
		return true
	})
}

// calledMethod is the name after the last dot of a call, empty for a plain function.
func calledMethod(call *ast.CallExpr) string {
	if selector, ok := call.Fun.(*ast.SelectorExpr); ok {
		return selector.Sel.Name
	}
	return ""
}
