package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	isc = `Copyright (c) 2026 Somebody

Permission to use, copy, modify, and/or distribute this software for any purpose with or without fee is hereby granted,
provided that the above copyright notice and this permission notice appear in all copies.

THE SOFTWARE IS PROVIDED "AS IS" AND THE AUTHOR DISCLAIMS ALL WARRANTIES WITH REGARD TO THIS SOFTWARE INCLUDING ALL IMPLIED
WARRANTIES OF MERCHANTABILITY AND FITNESS. IN NO EVENT SHALL THE AUTHOR BE LIABLE FOR ANY SPECIAL, DIRECT, INDIRECT, OR
CONSEQUENTIAL DAMAGES OR ANY DAMAGES WHATSOEVER RESULTING FROM LOSS OF USE, DATA OR PROFITS, WHETHER IN AN ACTION OF CONTRACT,
NEGLIGENCE OR OTHER TORTIOUS ACTION, ARISING OUT OF OR IN CONNECTION WITH THE USE OR PERFORMANCE OF THIS SOFTWARE.
`
	wtfpl = `DO WHAT THE FUCK YOU WANT TO PUBLIC LICENSE
Version 2, December 2004

Copyright (C) 2004 Sam Hocevar <sam@hocevar.net>

Everyone is permitted to copy and distribute verbatim or modified copies of this license document, and changing it is
allowed as long as the name is changed.

DO WHAT THE FUCK YOU WANT TO PUBLIC LICENSE
TERMS AND CONDITIONS FOR COPYING, DISTRIBUTION AND MODIFICATION

0. You just DO WHAT THE FUCK YOU WANT TO.
`
	restriction = `You may not use this software in production, nor offer it to others as a service, nor measure how fast it
is, nor read it on a Sunday, unless the author has agreed in writing, which the author will not do for anybody at all.
`
)

func TestRun(t *testing.T) {
	tests := map[string]struct {
		files    map[string]string
		packages []string
		want     string
		wantErr  string
	}{
		"a licence that is allowed is listed": {
			files:    map[string]string{"LICENSE": isc},
			packages: []string{"."},
			want:     "example.com/m  v1.2.3  ISC\n",
		},
		"a licence that is not allowed fails, and is still listed": {
			files:    map[string]string{"COPYING": wtfpl},
			packages: []string{"."},
			want:     "example.com/m  v1.2.3  WTFPL\n",
			wantErr:  "not allowed:\n  example.com/m v1.2.3: COPYING is WTFPL",
		},
		"a module without a licence fails": {
			files:    map[string]string{"README.md": isc, "license.go": isc},
			packages: []string{"."},
			want:     "example.com/m  v1.2.3  \n",
			wantErr:  "not allowed:\n  example.com/m v1.2.3: no licence file",
		},
		"a text that is no known licence fails": {
			files:    map[string]string{"LICENCE.txt": restriction},
			packages: []string{"."},
			want:     "example.com/m  v1.2.3  \n",
			wantErr:  "not allowed:\n  example.com/m v1.2.3: LICENCE.txt is no licence that is known",
		},
		"a restriction added to a known licence fails": {
			files:    map[string]string{"LICENSE": isc + restriction},
			packages: []string{"."},
			want:     "example.com/m  v1.2.3  \n",
			wantErr:  "not allowed:\n  example.com/m v1.2.3: LICENSE is no licence that is known",
		},
		"a licence beside code taken from elsewhere counts where that code is built in": {
			files:    map[string]string{"LICENSE": isc, "third_party/LICENSE-other": wtfpl, "third_party/deep/x.go": ""},
			packages: []string{".", "third_party/deep"},
			want:     "example.com/m  v1.2.3  ISC, WTFPL\n",
			wantErr:  "not allowed:\n  example.com/m v1.2.3: third_party/LICENSE-other is WTFPL",
		},
		"a licence of code that is not built in does not count": {
			files:    map[string]string{"LICENSE": isc, "examples/LICENSE": wtfpl, "a/x.go": ""},
			packages: []string{"a"},
			want:     "example.com/m  v1.2.3  ISC\n",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			top := t.TempDir()
			for file, text := range test.files {
				writeFile(t, filepath.Join(top, file), text)
			}
			var lines strings.Builder
			for _, folder := range test.packages {
				lines.WriteString(strings.Join([]string{"example.com/m", "v1.2.3", top, filepath.Join(top, folder)}, "\t") + "\n")
			}
			var out strings.Builder
			err := run(strings.NewReader(lines.String()), &out)
			if diff := cmp.Diff(test.want, out.String()); diff != "" {
				t.Errorf("wrong table (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.wantErr, message(err)); diff != "" {
				t.Errorf("wrong error (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRunRefusesWhatItCannotRead(t *testing.T) {
	for name, packages := range map[string]string{
		"nothing at all":         "",
		"a line that lacks data": "example.com/m\tv1.2.3\n",
		"a folder that is not":   "example.com/m\tv1.2.3\t/does/not/exist\t/does/not/exist\n",
	} {
		t.Run(name, func(t *testing.T) {
			if err := run(strings.NewReader(packages), &strings.Builder{}); err == nil {
				t.Error("want an error, got none")
			}
		})
	}
}

func writeFile(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func message(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
