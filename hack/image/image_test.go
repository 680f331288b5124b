package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	oci "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// entry is what matters of a file in a layer.
type entry struct {
	Mode, Owner int64
	Text        string // of small files
}

func TestTheArchiveHoldsWhatWasAskedFor(t *testing.T) {
	program := compile(t, "static", "CGO_ENABLED=0", "GOOS=linux", "GOARCH=arm64")
	read := readBack(t, built(t, "", "--name", "shop/app:1.2", "--label", "org.opencontainers.image.version=1.2", "--label", "k=v=w", program))

	config, err := read.ConfigFile()
	must(t, err)
	wantConfig := oci.Config{
		Entrypoint: []string{"/static"}, User: "65532:65532", WorkingDir: "/home/nonroot", Env: []string{"PATH=/"},
		Labels: map[string]string{"org.opencontainers.image.version": "1.2", "k": "v=w"},
	}
	if diff := cmp.Diff(wantConfig, config.Config); diff != "" {
		t.Errorf("configuration (-want +got):\n%s", diff)
	}
	if got := config.OS + "/" + config.Architecture; got != "linux/arm64" {
		t.Errorf("platform is %s", got)
	}
	if got := config.Created.Unix(); got != 0 {
		t.Errorf("created at %d", got)
	}
	want := []map[string]entry{
		{
			"etc/":          {Mode: 0o755},
			"etc/group":     {Mode: 0o644, Text: "root:x:0:\nnonroot:x:65532:\n"},
			"etc/passwd":    {Mode: 0o644, Text: "root:x:0:0:root:/:/none\nnonroot:x:65532:65532:nonroot:/home/nonroot:/none\n"},
			"home/":         {Mode: 0o755},
			"home/nonroot/": {Mode: 0o700, Owner: 65532},
			"tmp/":          {Mode: 0o1777},
		},
		{"static": {Mode: 0o755}},
	}
	if diff := cmp.Diff(want, entriesOf(t, read)); diff != "" {
		t.Errorf("layers (-want +got):\n%s", diff)
	}
}

func TestTheNameIsTheOneThatImportersLookFor(t *testing.T) {
	program := compile(t, "static", "CGO_ENABLED=0", "GOOS=linux")
	for name, row := range map[string]struct{ given, want string }{
		"a bare name is the one that a node makes of it": {given: "app:1", want: "docker.io/library/app:1"},
		"a name without a tag is the latest":             {given: "shop/app", want: "docker.io/shop/app:latest"},
		"a host stays":                                   {given: "localhost/app:1", want: "localhost/app:1"},
	} {
		t.Run(name, func(t *testing.T) {
			index, err := unpack(t, built(t, "", "--name", row.given, program)).ImageIndex()
			must(t, err)
			manifest, err := index.IndexManifest()
			must(t, err)
			want := map[string]string{"io.containerd.image.name": row.want, "org.opencontainers.image.ref.name": row.want}
			if diff := cmp.Diff(want, manifest.Manifests[0].Annotations); diff != "" {
				t.Errorf("annotations (-want +got):\n%s", diff)
			}
		})
	}
}

func TestTheSameBinariesGiveTheSameBytes(t *testing.T) {
	program := compile(t, "static", "CGO_ENABLED=0", "GOOS=linux")
	bytesOf := func(epoch string) []byte {
		text, err := os.ReadFile(built(t, epoch, "--name", "app:1", "--label", "a=1", "--label", "b=2", "--ca-certificates", program))
		must(t, err)
		return text
	}
	if !bytes.Equal(bytesOf(""), bytesOf("")) {
		t.Error("two archives of the same binary differ")
	}
	if bytes.Equal(bytesOf(""), bytesOf("1700000000")) {
		t.Error("SOURCE_DATE_EPOCH changes nothing")
	}
}

func TestAuthoritiesAreThoseOfTheMachine(t *testing.T) {
	folder := t.TempDir()
	second := filepath.Join(folder, "second")
	must(t, os.WriteFile(second, []byte("pem"), 0o600))
	text, err := trustedHere([]string{filepath.Join(folder, "first"), second})
	must(t, err)
	layer := map[string]string{}
	for _, f := range surroundings(text) {
		layer[f.path] = string(f.data)
	}
	if got := layer["/etc/ssl/certs/ca-certificates.crt"]; got != "pem" {
		t.Errorf("the image trusts %q", got)
	}
	if _, err := trustedHere([]string{filepath.Join(folder, "first")}); err == nil {
		t.Error("a machine without authorities is no error")
	}
}

func TestRefused(t *testing.T) {
	static := compile(t, "static", "CGO_ENABLED=0", "GOOS=linux")
	other := compile(t, "other", "CGO_ENABLED=0", "GOOS=linux", "GOARCH=riscv64")
	script := filepath.Join(t.TempDir(), "script")
	must(t, os.WriteFile(script, []byte("#!/bin/sh\n"), 0o600))
	output := filepath.Join(t.TempDir(), "image.oci.tar")
	for name, arguments := range map[string][]string{
		"no binary":                         {"--output", output, "--name", "app:1"},
		"no name":                           {"--output", output, static},
		"no output":                         {"--name", "app:1", static},
		"a name that is none":               {"--output", output, "--name", "App:1", static},
		"a label without a value":           {"--output", output, "--name", "app:1", "--label", "key", static},
		"an entrypoint that is not there":   {"--output", output, "--name", "app:1", "--entrypoint", "/other", static},
		"a file that is no program":         {"--output", output, "--name", "app:1", script},
		"a binary that is missing":          {"--output", output, "--name", "app:1", script + ".missing"},
		"a machine that is not shipped for": {"--output", output, "--name", "app:1", other},
	} {
		t.Run(name, func(t *testing.T) {
			if err := run(arguments, "", io.Discard); err == nil {
				t.Error("accepted")
			}
		})
	}
	if err := run([]string{"--output", output, "--name", "app:1", static}, "yesterday", io.Discard); err == nil {
		t.Error("an epoch that is no number was accepted")
	}
	if _, err := os.Stat(output); !errors.Is(err, os.ErrNotExist) {
		t.Error("an archive was written all the same")
	}
}

func TestAProgramThatNeedsALoaderIsRefused(t *testing.T) {
	shell, err := filepath.EvalSymlinks("/bin/sh")
	must(t, err)
	program, err := os.ReadFile(shell)
	must(t, err)
	if !bytes.Contains(program, []byte("/ld-")) {
		t.Skip("the shell of this machine needs no loader")
	}
	if _, err := architectureOf(program); err == nil {
		t.Error("accepted")
	}
}

// compile builds the smallest program there is.
func compile(t *testing.T, name string, environment ...string) string {
	t.Helper()
	folder := t.TempDir()
	must(t, os.WriteFile(filepath.Join(folder, "main.go"), []byte("package main\n\nfunc main() {}\n"), 0o600))
	output := filepath.Join(folder, name)
	command := exec.CommandContext(t.Context(), "go", "build", "-ldflags=-s -w", "-o", output, filepath.Join(folder, "main.go"))
	command.Env = append(os.Environ(), environment...)
	if said, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	return output
}

// built runs the command and returns the archive that it wrote.
func built(t *testing.T, epoch string, arguments ...string) string {
	t.Helper()
	output := filepath.Join(t.TempDir(), "image.oci.tar")
	must(t, run(append([]string{"--output", output}, arguments...), epoch, io.Discard))
	return output
}

func unpack(t *testing.T, archive string) layout.Path {
	t.Helper()
	file, err := os.Open(archive)
	must(t, err)
	defer func() { must(t, file.Close()) }()
	folder := t.TempDir()
	for content := tar.NewReader(file); ; {
		header, err := content.Next()
		if errors.Is(err, io.EOF) {
			return layout.Path(folder)
		}
		must(t, err)
		name := filepath.Join(folder, header.Name)
		must(t, os.MkdirAll(filepath.Dir(name), 0o700))
		data, err := io.ReadAll(content)
		must(t, err)
		must(t, os.WriteFile(name, data, 0o600))
	}
}

// readBack returns the one image of an archive, after checking every digest in it.
func readBack(t *testing.T, archive string) oci.Image {
	t.Helper()
	index, err := unpack(t, archive).ImageIndex()
	must(t, err)
	must(t, validate.Index(index))
	manifest, err := index.IndexManifest()
	must(t, err)
	if len(manifest.Manifests) != 1 {
		t.Fatalf("%d images", len(manifest.Manifests))
	}
	read, err := index.Image(manifest.Manifests[0].Digest)
	must(t, err)
	return read
}

func entriesOf(t *testing.T, read oci.Image) []map[string]entry {
	t.Helper()
	layers, err := read.Layers()
	must(t, err)
	var all []map[string]entry
	for _, layer := range layers {
		entries := map[string]entry{}
		stream, err := layer.Uncompressed()
		must(t, err)
		for content := tar.NewReader(stream); ; {
			header, err := content.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			must(t, err)
			found := entry{Mode: header.Mode, Owner: int64(header.Uid)}
			if header.Size < 1<<10 {
				text, err := io.ReadAll(content)
				must(t, err)
				found.Text = string(text)
			}
			entries[header.Name] = found
		}
		must(t, stream.Close())
		all = append(all, entries)
	}
	return all
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
