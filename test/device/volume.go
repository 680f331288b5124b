package device

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
)

const (
	secretFileMode   = 0o600
	secretFolderMode = 0o700
)

// Volume is a mounted Secret: files that change all at once.
type Volume struct {
	// Folder is where its files are.
	Folder string
	// Projected says that this is a folder in a projected volume, beside those of others.
	Projected bool

	versions int
}

// Lay writes a Secret's data as the kubelet does: into a new folder, to which one symbolic link is then moved.
func (v *Volume) Lay(data map[string][]byte) error {
	v.versions++
	version, root, within := "..version-"+strconv.Itoa(v.versions), v.Folder, ""
	if v.Projected {
		root, within = filepath.Split(v.Folder)
	}
	if err := os.MkdirAll(filepath.Join(root, version, within), secretFolderMode); err != nil {
		return fmt.Errorf("mounting the Secret: %w", err)
	}
	link := filepath.Join(root, "..data")
	before, err := os.Readlink(link)
	if err != nil {
		before = "" // the first version
	}
	for key, value := range data {
		if err := os.WriteFile(filepath.Join(root, version, within, key), value, secretFileMode); err != nil {
			return fmt.Errorf("mounting the Secret: %w", err)
		}
	}
	if err := errors.Join(os.Symlink(version, link+"_tmp"), os.Rename(link+"_tmp", link)); err != nil {
		return fmt.Errorf("mounting the Secret: %w", err)
	}
	visible := slices.Collect(maps.Keys(data))
	if v.Projected {
		visible = []string{within}
	}
	for _, name := range visible {
		err := os.Symlink(filepath.Join("..data", name), filepath.Join(root, name))
		if err != nil && !errors.Is(err, os.ErrExist) {
			return fmt.Errorf("mounting the Secret: %w", err)
		}
	}
	if before == "" {
		return nil
	}
	return os.RemoveAll(filepath.Join(root, before))
}
