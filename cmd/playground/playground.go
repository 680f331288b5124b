package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/simulator"
	"github.com/mqtt-token-operator/mqtt-token-operator/test/cluster"
	"github.com/mqtt-token-operator/mqtt-token-operator/test/device"
	"github.com/mqtt-token-operator/mqtt-token-operator/test/story"
)

const (
	// storyWithin bounds the story; it takes about half of it.
	storyWithin = 5 * time.Minute
	tailLines   = 25
)

// playground is everything that runs, and what the story has come to know.
type playground struct {
	o options
	*story.Printer

	folder string // logs, kubeconfigs and mounted Secrets
	onEnd  func(error)

	samples []*unstructured.Unstructured
	cloud   *simulator.Simulator
	cluster *cluster.Cluster
	manager *cluster.Process

	press, dashboard app
	// secrets are texts that must not turn up in a log.
	secrets  []string
	messages int
}

// app is an application: an MQTT client and the Secret that is mounted for it.
type app struct {
	*device.Device
	mount device.Volume
}

// play starts everything, tells the story, stays up unless it is to end at once, and stops everything.
func play(ctx context.Context, o options, p *story.Printer) (err error) {
	folder, err := os.MkdirTemp("", "mqtt-token-playground-")
	if err != nil {
		return fmt.Errorf("making a folder to work in: %w", err)
	}
	p.Line("The MQTT token operator at work, on this machine alone. Logs: " + folder)
	running, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	g := &playground{o: o, Printer: p, folder: folder, onEnd: func(err error) { cancel(err) }}
	g.press.mount.Folder, g.dashboard.mount.Folder = filepath.Join(folder, "press-07"), filepath.Join(folder, "dashboard")
	err = story.Tell(running, p, g, storyWithin, plot())
	if err == nil && !o.once {
		g.farewell()
		<-running.Done()
		err = context.Cause(running)
	}
	switch {
	case err == nil:
	case ctx.Err() == nil:
		g.Failed(err)
	case !o.once:
		err = nil // somebody ended it, which is how it ends
	}
	return errors.Join(err, g.close(err))
}

// farewell says what one can do now.
func (g *playground) farewell() {
	kubectl := g.cluster.Kubectl
	if here, err := os.Getwd(); err == nil {
		if relative, err := filepath.Rel(here, kubectl); err == nil && filepath.IsLocal(relative) {
			kubectl = relative
		}
	}
	g.Line(fmt.Sprintf(`
It stays up until Ctrl-C. In another terminal:

  export KUBECONFIG=%[1]s
  %[2]s get mtg,mqi -A -o wide
  %[2]s apply -f %[3]s
  %[2]s -n line-a annotate mtg dashboard mqtt.tokengrant.dev/reissue=1   # new tokens now

The simulator's admin endpoint, for instance: curl -s http://%[4]s/tokens`,
		g.cluster.Kubeconfig, kubectl, filepath.Join(g.o.samples(), "grant_press-07.yaml"), g.cloud.AdminAddress()))
}

// close stops everything, what depends on others first. The logs stay after a failure; credentials never do.
func (g *playground) close(failure error) error {
	g.Line("\nStopping.")
	g.press.Close()
	g.dashboard.Close()
	if g.manager != nil {
		g.manager.Stop()
	}
	var faults []error
	if g.cluster != nil {
		faults = append(faults, g.cluster.Stop())
	}
	if g.cloud != nil {
		faults = append(faults, g.cloud.Close())
	}
	if failure == nil {
		return errors.Join(append(faults, os.RemoveAll(g.folder))...)
	}
	if g.manager != nil {
		g.Line("The end of " + g.manager.Log + ":")
		g.Block(g.manager.Tail(tailLines))
	}
	return errors.Join(append(faults, g.removeCredentials())...)
}

func (g *playground) removeCredentials() error {
	faults := []error{os.RemoveAll(g.press.mount.Folder), os.RemoveAll(g.dashboard.mount.Folder)}
	kubeconfigs, err := filepath.Glob(filepath.Join(g.folder, "*kubeconfig"))
	for _, name := range kubeconfigs {
		faults = append(faults, os.Remove(name))
	}
	return errors.Join(append(faults, err)...)
}
