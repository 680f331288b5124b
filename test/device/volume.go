package device

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

const (
	secretFileMode   = 0o600
	secretFolderMode = 0o700
)

// Volume is a mounted Secret: files that change all at once.
type Volume struct {
	// Folder is where it is mounted.
	Folder string

	versions int
}

// Lay writes a Secret's data as the kubelet does: into a new folder, to which one symbolic link is then moved.
func (v *Volume) Lay(data map[string][]byte) error {
	v.versions++
	version := "..version-" + strconv.Itoa(v.versions)
	if err := os.MkdirAll(filepath.Join(v.Folder, version), secretFolderMode); err != nil {
		return fmt.Errorf("mounting the Secret: %w", err)
	}
	link := filepath.Join(v.Folder, "..data")
	before, err := os.Readlink(link)
	if err != nil {
		before = "" // the first version
	}
	for key, value := range data {
		if err := os.WriteFile(filepath.Join(v.Folder, version, key), value, secretFileMode); err != nil {
			return fmt.Errorf("mounting the Secret: %w", err)
		}
	}
	if err := errors.Join(os.Symlink(version, link+"_tmp"), os.Rename(link+"_tmp", link)); err != nil {
		return fmt.Errorf("mounting the Secret: %w", err)
	}
	for key := range data {
		err := os.Symlink(filepath.Join("..data", key), filepath.Join(v.Folder, key))
		if err != nil && !errors.Is(err, os.ErrExist) {
			return fmt.Errorf("mounting the Secret: %w", err)
		}
	}
	if before == "" {
		return nil
	}
	return os.RemoveAll(filepath.Join(v.Folder, before))
}
