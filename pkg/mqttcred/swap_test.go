package mqttcred_test

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/mqtt-token-operator/mqtt-token-operator/pkg/mqttcred"
)

// The folder is swapped as fast as it goes, old versions are removed at once: what Load returns is always of one version.
func TestLoadNeverMixesVersions(t *testing.T) {
	const versions = 100
	dir := t.TempDir()
	swap := func(version int) error {
		name := filepath.Join(dir, ".."+strconv.Itoa(version))
		if err := os.Mkdir(name, 0o700); err != nil {
			return err
		}
		for key, text := range files() {
			if key == "username" || key == "host" {
				text = strconv.Itoa(version)
			}
			if err := os.WriteFile(filepath.Join(name, key), []byte(text), 0o600); err != nil {
				return err
			}
		}
		if err := os.WriteFile(filepath.Join(name, "ca.crt"), []byte(strconv.Itoa(version)), 0o600); err != nil {
			return err
		}
		link := filepath.Join(dir, "..data")
		return errors.Join(
			os.Symlink(filepath.Base(name), link+"_tmp"), os.Rename(link+"_tmp", link),
			os.RemoveAll(filepath.Join(dir, ".."+strconv.Itoa(version-1))),
		)
	}
	if err := swap(1); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		for version := 2; version <= versions; version++ {
			if err := swap(version); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for {
		c, err := mqttcred.Load(dir)
		switch {
		case errors.Is(err, mqttcred.ErrChanging): // no kubelet is that quick
		case err != nil:
			t.Fatal(err)
		case c.Username != c.Host || c.Username != string(c.CA):
			t.Fatalf("versions %s, %s and %q in one", c.Username, c.Host, c.CA)
		}
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			return
		default:
		}
	}
}
