package main

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
)

// archive writes an image in the OCI layout as one file, under the name that a container runtime imports it by.
func archive(image v1.Image, name, output string) (err error) {
	folder, err := os.MkdirTemp("", "image-")
	if err != nil {
		return fmt.Errorf("making a folder to work in: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	path, err := layout.Write(folder, empty.Index)
	if err != nil {
		return fmt.Errorf("writing the layout: %w", err)
	}
	if err := path.AppendImage(image, layout.WithAnnotations(map[string]string{
		"io.containerd.image.name":          name,
		"org.opencontainers.image.ref.name": name,
	})); err != nil {
		return fmt.Errorf("writing the image: %w", err)
	}
	partial := output + ".partial"
	if err := packFolder(folder, partial); err != nil {
		return errors.Join(err, os.Remove(partial))
	}
	return os.Rename(partial, output)
}

// packFolder packs a folder's files in the order of their names, without owner or time.
func packFolder(folder, output string) (err error) {
	file, err := os.Create(output)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	pack := tar.NewWriter(file)
	root := os.DirFS(folder)
	err = fs.WalkDir(root, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || name == "." {
			return err
		}
		if entry.IsDir() {
			return pack.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: folderMode, Format: tar.FormatUSTAR})
		}
		return packFile(pack, filepath.Join(folder, name), name)
	})
	return errors.Join(err, pack.Close())
}

func packFile(pack *tar.Writer, path, name string) (err error) {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	header := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: info.Size(), Mode: fileMode, Format: tar.FormatUSTAR}
	if err := pack.WriteHeader(header); err != nil {
		return err
	}
	_, err = io.Copy(pack, file)
	return err
}
