package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mqtt-token-operator/mqtt-token-operator/test/device"
)

const (
	publishEvery = time.Second
	// offlineFor is how long a client may be without a connection: it tries again once a second.
	offlineFor = 5 * time.Second
)

// clientKeys lists the grants that real MQTT clients use.
func clientKeys() []types.NamespacedName {
	var keys []types.NamespacedName
	for _, key := range grantKeys() {
		if isClient(key) {
			keys = append(keys, key)
		}
	}
	return keys
}

// connection is a client that publishes for ever.
type connection struct {
	w       *world
	key     types.NamespacedName
	volume  device.Volume
	version string
	device  *device.Device
	broken  time.Time // since when; zero while it works
	told    bool
}

// converse has one client publish until the context ends, as an application would: on a new Secret it uploads its tokens,
// and on a lost connection it reads the files and connects again.
func (w *world) converse(ctx context.Context, key types.NamespacedName) {
	c := &connection{w: w, key: key, volume: device.Volume{Folder: filepath.Join(w.folder, "client-"+key.Namespace+"-"+key.Name)}}
	ticker := time.NewTicker(publishEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			c.device.Close()
			return
		case <-ticker.C:
			c.note(c.step(ctx))
		}
	}
}

// note keeps account of how long the client has been without a connection.
func (c *connection) note(err error) {
	c.w.checked(connected, 1)
	if err == nil {
		c.broken, c.told = time.Time{}, false
		c.w.settings.update(func(f *figures) { f.publications++ })
		return
	}
	if c.broken.IsZero() {
		c.broken = time.Now()
	}
	gap := time.Since(c.broken)
	c.w.settings.update(func(f *figures) { f.clientGap = max(f.clientGap, gap) })
	if gap > offlineFor && !c.told && !c.w.isExcused(c.key) {
		c.told = true
		c.w.violated(connected, "client %s has not been able to publish for %s: %v", c.key, gap.Round(time.Second), err)
	}
}

func (c *connection) step(ctx context.Context) error {
	changed, err := c.mount(ctx)
	if err != nil && c.version == "" {
		return err
	}
	if c.device == nil {
		if c.device, err = device.Connect(c.volume.Folder); err != nil {
			c.device = nil
			return err
		}
		c.w.settings.update(func(f *figures) { f.reconnects++ })
	} else if changed {
		if err := c.device.Upload(c.volume.Folder); err != nil {
			return c.drop(fmt.Errorf("uploading: %w", err))
		}
	}
	if err := c.device.Publish(prefix(c.key)+"state", "hello"); err != nil {
		return c.drop(err)
	}
	return nil
}

func (c *connection) drop(err error) error {
	c.device.Close()
	c.device = nil
	return err
}

// mount lays a new version of the Secret down. While the API server is away the files stay as they are.
func (c *connection) mount(ctx context.Context) (changed bool, err error) {
	var secret corev1.Secret
	if err := c.w.api.Get(ctx, c.key, &secret); err != nil {
		return false, err
	}
	if secret.ResourceVersion == c.version {
		return false, nil
	}
	if err := c.volume.Lay(secret.Data); err != nil {
		return false, err
	}
	c.version = secret.ResourceVersion
	return true, nil
}
