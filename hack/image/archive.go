package main

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
)

// What tells an importer the image's name: containerd reads the first, others the second.
const (
	containerdName = "io.containerd.image.name"
	referenceName  = "org.opencontainers.image.ref.name"
)

// writeArchive writes an OCI archive. It arrives complete or not at all.
func writeArchive(made *image, output string) (err error) {
	folder, err := os.MkdirTemp("", "image-")
	if err != nil {
		return fmt.Errorf("making a folder to work in: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	written, err := layout.Write(folder, empty.Index)
	if err != nil {
		return fmt.Errorf("writing the image: %w", err)
	}
	names := map[string]string{containerdName: made.name, referenceName: made.name}
	if err := written.AppendImage(made, layout.WithAnnotations(names), layout.WithPlatform(made.platform)); err != nil {
		return fmt.Errorf("writing the image: %w", err)
	}
	partial, err := os.CreateTemp(filepath.Dir(output), ".image-")
	if err != nil {
		return fmt.Errorf("making the archive: %w", err)
	}
	if err := errors.Join(pack(os.DirFS(folder), partial), partial.Chmod(0o644), partial.Close()); err != nil {
		return errors.Join(fmt.Errorf("writing the archive: %w", err), os.Remove(partial.Name()))
	}
	if err := os.Rename(partial.Name(), output); err != nil {
		return fmt.Errorf("writing the archive: %w", err)
	}
	return nil
}

// pack writes a folder's files in the order of their names, and nothing about the machine or the moment.
func pack(folder fs.FS, output io.Writer) error {
	archive := tar.NewWriter(output)
	err := fs.WalkDir(folder, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := fs.ReadFile(folder, name)
		if err != nil {
			return err
		}
		header := &tar.Header{
			Name: name, Mode: 0o644, Size: int64(len(data)), ModTime: time.Unix(0, 0), Typeflag: tar.TypeReg, Format: tar.FormatPAX,
		}
		if err := archive.WriteHeader(header); err != nil {
			return err
		}
		_, err = archive.Write(data)
		return err
	})
	return errors.Join(err, archive.Close())
}
