package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// nonroot is the user of distroless images, which the Dockerfile's image has, too.
const nonroot = 65532

const (
	programMode = 0o555
	fileMode    = 0o444
	folderMode  = 0o755
	sharedMode  = 0o1777
)

// build makes the image: one layer, an unprivileged user, and no time in it that differs between two builds.
func build(o options) (v1.Image, error) {
	content, err := files(o)
	if err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil },
		tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, fmt.Errorf("making a layer: %w", err)
	}
	base := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	image, err := mutate.AppendLayers(base, layer)
	if err != nil {
		return nil, fmt.Errorf("adding the layer: %w", err)
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("reading the image's configuration: %w", err)
	}
	config.OS, config.Architecture = "linux", o.architecture
	config.Config = v1.Config{
		Entrypoint: []string{"/" + filepath.Base(o.programs[0])}, User: fmt.Sprintf("%d:%d", nonroot, nonroot),
		WorkingDir: "/", Labels: o.labels, Env: []string{"PATH=/"},
	}
	if image, err = mutate.ConfigFile(image, config); err != nil {
		return nil, fmt.Errorf("writing the image's configuration: %w", err)
	}
	return image, nil
}

// files packs the image's only layer.
func files(o options) ([]byte, error) {
	passwd := fmt.Sprintf("root:x:0:0:root:/:/sbin/nologin\nnonroot:x:%d:%d:nonroot:/:/sbin/nologin\n", nonroot, nonroot)
	entries := []entry{{"etc/", folderMode, nil}, {"etc/passwd", fileMode, []byte(passwd)}, {"tmp/", sharedMode, nil}}
	if o.certificates != "" {
		bundle, err := os.ReadFile(o.certificates)
		if err != nil {
			return nil, fmt.Errorf("reading the certificates: %w", err)
		}
		entries = append(entries, entry{"etc/ssl/", folderMode, nil}, entry{"etc/ssl/certs/", folderMode, nil},
			entry{"etc/ssl/certs/ca-certificates.crt", fileMode, bundle})
	}
	for _, program := range o.programs {
		text, err := os.ReadFile(program)
		if err != nil {
			return nil, fmt.Errorf("reading a program: %w", err)
		}
		entries = append(entries, entry{filepath.Base(program), programMode, text})
	}
	return packed(entries)
}

// entry is a file of the image, or a folder if its name ends with a slash.
type entry struct {
	name string
	mode int64
	text []byte
}

func packed(entries []entry) ([]byte, error) {
	var content bytes.Buffer
	pack := tar.NewWriter(&content)
	for _, e := range entries {
		header := &tar.Header{Typeflag: tar.TypeReg, Name: e.name, Mode: e.mode, Size: int64(len(e.text)), Format: tar.FormatUSTAR}
		if strings.HasSuffix(e.name, "/") {
			header.Typeflag = tar.TypeDir
		}
		if err := pack.WriteHeader(header); err != nil {
			return nil, fmt.Errorf("packing %s: %w", e.name, err)
		}
		if _, err := pack.Write(e.text); err != nil {
			return nil, fmt.Errorf("packing %s: %w", e.name, err)
		}
	}
	return content.Bytes(), pack.Close()
}
