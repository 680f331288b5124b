package main

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	oci "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// The one user that the image knows beside root, with the number that distroless images gave it.
const (
	nonroot     = 65532
	nonrootHome = "/home/nonroot"
	// stickyBit is what keeps users from deleting each other's temporary files, as an archive has it.
	stickyBit = 0o1000
	// authoritiesFile is where Go's crypto/x509 looks first.
	authoritiesFile = "/etc/ssl/certs/ca-certificates.crt"
)

// spec is what goes into an image.
type spec struct {
	name        string
	binaries    []string // files on this machine; each lands in the root folder
	entrypoint  string   // when empty the first binary
	labels      map[string]string
	authorities []byte // certificates in PEM; when empty none
	created     time.Time
}

// image is an image with the name that it is to have wherever it is imported.
type image struct {
	oci.Image
	name     string
	platform oci.Platform
}

// file is an entry of a layer.
type file struct {
	path  string
	mode  fs.FileMode
	owner int
	data  []byte
}

// build makes the image: one layer with what every program needs, one with the programs.
func build(s spec) (*image, error) {
	reference, err := name.NewTag(s.name)
	if err != nil {
		return nil, fmt.Errorf("reading the image's name: %w", err)
	}
	programs, platform, err := readBinaries(s.binaries)
	if err != nil {
		return nil, err
	}
	entrypoint := s.entrypoint
	if entrypoint == "" {
		entrypoint = programs[0].path
	}
	if !slices.ContainsFunc(programs, func(f file) bool { return f.path == entrypoint }) {
		return nil, fmt.Errorf("the entrypoint %q is none of the binaries", entrypoint)
	}
	made, err := assemble(s.created, surroundings(s.authorities), programs)
	if err != nil {
		return nil, err
	}
	config, err := made.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("reading the image's configuration: %w", err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Created = platform.OS, platform.Architecture, oci.Time{Time: s.created}
	config.Config = oci.Config{
		Entrypoint: []string{entrypoint}, User: fmt.Sprintf("%d:%d", nonroot, nonroot), WorkingDir: nonrootHome,
		Env: []string{"PATH=/"}, Labels: s.labels,
	}
	if made, err = mutate.ConfigFile(made, config); err != nil {
		return nil, fmt.Errorf("configuring the image: %w", err)
	}
	// The library says index.docker.io, containerd and everybody else docker.io, of names without a host.
	return &image{Image: made, name: strings.TrimPrefix(reference.Name(), "index."), platform: platform}, nil
}

// assemble puts each list of files into a layer of its own.
func assemble(created time.Time, layers ...[]file) (oci.Image, error) {
	made := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	for _, files := range layers {
		content, err := archiveOf(files, created)
		if err != nil {
			return nil, err
		}
		open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil }
		layer, err := tarball.LayerFromOpener(open, tarball.WithMediaType(types.OCILayer), tarball.WithCompressedCaching)
		if err != nil {
			return nil, fmt.Errorf("making a layer: %w", err)
		}
		history := oci.History{Created: oci.Time{Time: created}, CreatedBy: "hack/image"}
		if made, err = mutate.Append(made, mutate.Addendum{Layer: layer, MediaType: types.OCILayer, History: history}); err != nil {
			return nil, fmt.Errorf("adding a layer: %w", err)
		}
	}
	return made, nil
}

// surroundings are what a program expects to find: a name for its user, a home, a place for temporary files and, when
// there are any, whom to trust.
func surroundings(authorities []byte) []file {
	files := []file{
		{path: "/etc/", mode: 0o755},
		{path: "/etc/group", mode: 0o644, data: fmt.Appendf(nil, "root:x:0:\nnonroot:x:%d:\n", nonroot)},
		{path: "/etc/passwd", mode: 0o644, data: fmt.Appendf(nil,
			"root:x:0:0:root:/:/none\nnonroot:x:%[1]d:%[1]d:nonroot:%[2]s:/none\n", nonroot, nonrootHome)},
		{path: "/home/", mode: 0o755},
		{path: nonrootHome + "/", mode: 0o700, owner: nonroot},
		{path: "/tmp/", mode: 0o777 | fs.ModeSticky},
	}
	if len(authorities) > 0 {
		files = append(files,
			file{path: "/etc/ssl/", mode: 0o755}, file{path: path.Dir(authoritiesFile) + "/", mode: 0o755},
			file{path: authoritiesFile, mode: 0o644, data: authorities})
	}
	return files
}

// archiveOf writes a layer as the same bytes each time.
func archiveOf(files []file, at time.Time) ([]byte, error) {
	var content bytes.Buffer
	archive := tar.NewWriter(&content)
	for _, f := range files {
		header := &tar.Header{
			Name: strings.TrimPrefix(f.path, "/"), Mode: int64(f.mode.Perm()), Uid: f.owner, Gid: f.owner, Size: int64(len(f.data)),
			ModTime: at, Typeflag: tar.TypeReg, Format: tar.FormatPAX,
		}
		if strings.HasSuffix(f.path, "/") {
			header.Typeflag = tar.TypeDir
		}
		if f.mode&fs.ModeSticky != 0 {
			header.Mode |= stickyBit
		}
		if err := archive.WriteHeader(header); err != nil {
			return nil, fmt.Errorf("writing %s into a layer: %w", f.path, err)
		}
		if _, err := archive.Write(f.data); err != nil {
			return nil, fmt.Errorf("writing %s into a layer: %w", f.path, err)
		}
	}
	if err := archive.Close(); err != nil {
		return nil, fmt.Errorf("writing a layer: %w", err)
	}
	return content.Bytes(), nil
}

// readBinaries reads programs that are all for the same platform.
func readBinaries(names []string) ([]file, oci.Platform, error) {
	var files []file
	var all oci.Platform
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, oci.Platform{}, fmt.Errorf("reading a binary: %w", err)
		}
		architecture, err := architectureOf(data)
		if err != nil {
			return nil, oci.Platform{}, fmt.Errorf("reading %s: %w", name, err)
		}
		if all.Architecture != "" && all.Architecture != architecture {
			return nil, oci.Platform{}, fmt.Errorf("%s is for %s, others are for %s", name, architecture, all.Architecture)
		}
		all = oci.Platform{OS: "linux", Architecture: architecture}
		files = append(files, file{path: "/" + filepath.Base(name), mode: 0o755, data: data})
	}
	return files, all, nil
}

// architectureOf reads from a program what it runs on. One that needs a loader would find none in the image.
func architectureOf(program []byte) (string, error) {
	read, err := elf.NewFile(bytes.NewReader(program))
	if err != nil {
		return "", fmt.Errorf("not a Linux program: %w", err)
	}
	for _, segment := range read.Progs {
		if segment.Type == elf.PT_INTERP {
			return "", errors.New("not a static binary; build it with CGO_ENABLED=0")
		}
	}
	switch read.Machine {
	case elf.EM_X86_64:
		return "amd64", nil
	case elf.EM_AARCH64:
		return "arm64", nil
	default:
		return "", fmt.Errorf("built for %s, which no image is made for", read.Machine)
	}
}

// authorityFiles are where systems keep the certificate authorities that they trust.
func authorityFiles() []string {
	return []string{authoritiesFile, "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem"}
}

func trustedHere(candidates []string) ([]byte, error) {
	for _, name := range candidates {
		data, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("reading the certificate authorities: %w", err)
		}
		return data, nil
	}
	return nil, fmt.Errorf("no certificate authorities here; looked for %s (Debian: apt-get install ca-certificates)", strings.Join(candidates, ", "))
}
