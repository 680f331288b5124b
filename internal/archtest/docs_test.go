package archtest_test

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	makefileTarget = regexp.MustCompile(`(?m)^([a-z][a-z0-9-]*):`)
	relativeLink   = regexp.MustCompile(`\]\(([^)#\s]+)(?:#[^)]*)?\)`)
	codeSpan       = regexp.MustCompile("`([^`\n]+)`")
	makeCommand    = regexp.MustCompile("(?m)(?:^\\s*(?:\\$ )?|`|&& )make ((?:-[a-zA-Z] )*)([a-z][a-z0-9-]*)")
	pathLike       = regexp.MustCompile(`^\.?[\w.-]+(/[\w.*<>-]+)+/?$`)
	placeholder    = regexp.MustCompile(`<[^>]*>`)
)

func TestLinksResolve(t *testing.T) {
	for name, text := range documents(t) {
		for _, match := range relativeLink.FindAllStringSubmatch(text, -1) {
			target := match[1]
			if strings.Contains(target, ":") { // another site
				continue
			}
			if !exists(t, path.Join(path.Dir(name), target)) {
				t.Errorf("%s links to %s, which does not exist", name, target)
			}
		}
	}
}

func TestMakeTargetsNamedInDocumentsExist(t *testing.T) {
	var targets []string
	for _, match := range makefileTarget.FindAllStringSubmatch(read(t, "Makefile"), -1) {
		targets = append(targets, match[1])
	}
	for name, text := range documents(t) {
		for _, match := range makeCommand.FindAllStringSubmatch(text, -1) {
			if target := match[2]; !slices.Contains(targets, target) {
				t.Errorf("%s tells the reader to run make %s, which does not exist", name, target)
			}
		}
	}
}

// A path is a code span that begins with one of our folders. Decisions (docs/adr) keep the paths of their day.
func TestPathsNamedInDocumentsExist(t *testing.T) {
	folders := ourFolders(t)
	for name, text := range documents(t) {
		if strings.HasPrefix(name, "docs/adr/") {
			continue
		}
		for _, match := range codeSpan.FindAllStringSubmatch(text, -1) {
			first, _, _ := strings.Cut(match[1], "/")
			if !pathLike.MatchString(match[1]) || !slices.Contains(folders, first) {
				continue
			}
			if !exists(t, placeholder.ReplaceAllString(match[1], "*")) {
				t.Errorf("%s names %s, which does not exist", name, match[1])
			}
		}
	}
}

// documents maps the name of every Markdown file that people read to its text.
func documents(t *testing.T) map[string]string {
	t.Helper()
	texts := map[string]string{}
	for _, name := range namesBelow(t, ".", ".md") {
		texts[name] = read(t, name)
	}
	return texts
}

func ourFolders(t *testing.T) []string {
	t.Helper()
	entries, err := fs.ReadDir(os.DirFS(root), ".")
	if err != nil {
		t.Fatal(err)
	}
	var folders []string
	for _, entry := range entries {
		if entry.IsDir() && !slices.Contains([]string{".git", "bin", "dist"}, entry.Name()) {
			folders = append(folders, entry.Name())
		}
	}
	return folders
}

// exists reports whether a file, a folder or anything that the pattern matches is there.
func exists(t *testing.T, pattern string) bool {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(root, pattern))
	if err != nil {
		t.Fatal(err)
	}
	return len(found) > 0
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
