// Command licences lists the modules that a binary is made of, with their licences, and fails on one that is not allowed.
//
// It reads what `go list -deps` says, one package a line: module, version, folder of the module, folder of the package,
// separated by tabs. What counts are the licence files in a package's folder and above it, up to the module's: code that a
// module has taken from elsewhere is under the licence beside it, and packages that are not built in do not matter.
package main

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/google/licensecheck"
)

func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "licences:", err)
		os.Exit(1)
	}
}

// allowed says what each licence asks of whoever ships the binary.
func allowed() map[string]string {
	return map[string]string{
		"Apache-2.0":   "pass on the licence and the NOTICE",
		"BSD-2-Clause": "pass on the licence",
		"BSD-3-Clause": "pass on the licence",
		"ISC":          "pass on the licence",
		"MIT":          "pass on the licence",
		"MPL-2.0":      "pass on the licence, and the source of its files where we change them",
	}
}

type module struct{ path, version, folder string }

func run(packages io.Reader, out io.Writer) error {
	folders, err := parse(packages)
	if err != nil {
		return err
	}
	if len(folders) == 0 {
		return fmt.Errorf("no module to look at")
	}
	var rows, faults []string
	for _, m := range slices.SortedFunc(maps.Keys(folders), func(a, b module) int { return strings.Compare(a.path, b.path) }) {
		found, err := licencesOf(m.folder, folders[m])
		if err != nil {
			return fmt.Errorf("reading the licences of %s: %w", m.path, err)
		}
		names, wrong := judge(found)
		rows = append(rows, fmt.Sprintf("%s\t%s\t%s\n", m.path, m.version, strings.Join(names, ", ")))
		for _, fault := range wrong {
			faults = append(faults, fmt.Sprintf("%s %s: %s", m.path, m.version, fault))
		}
	}
	if err := write(out, rows); err != nil {
		return fmt.Errorf("writing the table: %w", err)
	}
	if len(faults) > 0 {
		return fmt.Errorf("not allowed:\n  %s", strings.Join(faults, "\n  "))
	}
	return nil
}

func write(out io.Writer, rows []string) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	if _, err := io.WriteString(table, strings.Join(rows, "")); err != nil {
		return err
	}
	return table.Flush()
}

// parse maps each module to the folders of its packages.
func parse(packages io.Reader) (map[module][]string, error) {
	folders := map[module][]string{}
	lines := bufio.NewScanner(packages)
	for lines.Scan() {
		fields := strings.Split(lines.Text(), "\t")
		if len(fields) != 4 {
			return nil, fmt.Errorf("reading %q: want 4 fields, got %d", lines.Text(), len(fields))
		}
		m := module{path: fields[0], version: fields[1], folder: fields[2]}
		folders[m] = append(folders[m], fields[3])
	}
	return folders, lines.Err()
}

// licencesOf maps each licence file that covers one of the packages to the licences in it.
func licencesOf(top string, packages []string) (map[string][]string, error) {
	found := map[string][]string{}
	for _, folder := range upTo(top, packages) {
		files, err := licenceFiles(folder)
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				return nil, err
			}
			found[strings.TrimPrefix(file, top+string(filepath.Separator))] = recognise(text)
		}
	}
	return found, nil
}

// upTo returns the folders, and those above them as far as the top, each once.
func upTo(top string, folders []string) []string {
	var all []string
	seen := map[string]bool{}
	for _, folder := range folders {
		for !seen[folder] && strings.HasPrefix(folder, top) {
			seen[folder] = true
			all = append(all, folder)
			folder = filepath.Dir(folder)
		}
	}
	return all
}

// licenceFiles returns what is called a licence in a folder; LICENSE.libyaml counts, license.go does not.
func licenceFiles(folder string) ([]string, error) {
	name := regexp.MustCompile(`(?i)^(licen[cs]e|copying|unlicense)([.-].*)?$`)
	code := regexp.MustCompile(`(?i)\.(go|s|c|h)$`)
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	var files []string
	for _, entry := range entries {
		if entry.Type().IsRegular() && name.MatchString(entry.Name()) && !code.MatchString(entry.Name()) {
			files = append(files, filepath.Join(folder, entry.Name()))
		}
	}
	return files, nil
}

// recognise names the licences in a text, none where too much of it is something else.
func recognise(text []byte) []string {
	const enough = 80 // percent; the rest is an introduction that says what is under which licence
	coverage := licensecheck.Scan(text)
	if coverage.Percent < enough {
		return nil
	}
	var names []string
	for _, match := range coverage.Match {
		names = append(names, match.ID)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// judge returns the licences by name, and what is wrong with them.
func judge(found map[string][]string) (names, faults []string) {
	if len(found) == 0 {
		return nil, []string{"no licence file"}
	}
	for _, file := range slices.Sorted(maps.Keys(found)) {
		if len(found[file]) == 0 {
			faults = append(faults, file+" is no licence that is known")
		}
		for _, name := range found[file] {
			if _, ok := allowed()[name]; !ok {
				faults = append(faults, file+" is "+name)
			}
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), faults
}
