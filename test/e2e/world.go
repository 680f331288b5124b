package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/mqtt-token-operator/mqtt-token-operator/test/cluster"
	"github.com/mqtt-token-operator/mqtt-token-operator/test/node"
	"github.com/mqtt-token-operator/mqtt-token-operator/test/story"
)

const (
	// storyWithin bounds the story; it takes about half of it.
	storyWithin = 15 * time.Minute
	tailLines   = 30
	// tidyWithin bounds what is done to a cluster that stays.
	tidyWithin = 5 * time.Minute
)

// world is everything that runs, and what the story has come to know.
type world struct {
	o options
	*story.Printer

	folder           string
	node             *node.Node
	cloud            cloud
	forward          *cluster.Process // to the simulator's admin endpoint
	onEnd            func(error)
	press, dashboard *app
	stale            *app // whose tokens nobody renews
	staleEnds        time.Time
	figures          figures
}

// figures are what the story measures.
type figures struct {
	toFile, toUpload time.Duration
}

// run starts a cluster, tells the story and stops everything, whatever happened.
func run(ctx context.Context, o options, p *story.Printer) (err error) {
	folder, err := os.MkdirTemp("", "mqtt-e2e-")
	if err != nil {
		return fmt.Errorf("making a folder to work in: %w", err)
	}
	p.Line("The operator in a cluster with pods, on this machine alone. Logs: " + folder)
	running, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	w := &world{o: o, Printer: p, folder: folder, onEnd: func(err error) { cancel(err) }}
	if w.node, err = w.startNode(running); err == nil {
		err = story.Tell(running, p, w, storyWithin, plot())
	}
	if err != nil {
		w.Failed(err)
		w.explain(context.WithoutCancel(ctx))
	}
	return errors.Join(err, w.close(err != nil))
}

func (w *world) startNode(ctx context.Context) (*node.Node, error) {
	return node.Start(ctx, node.Options{
		Kubernetes: w.o.assets, Containerd: w.o.runtime, Folder: w.folder, Pause: w.o.image("pause"), Existing: w.o.existing, OnEnd: w.onEnd,
	})
}

// explain shows what somebody would look at who has to find out what went wrong.
func (w *world) explain(ctx context.Context) {
	if w.node == nil {
		return
	}
	for _, question := range []string{
		"get pods -A -o wide", "get mtg,mqi -A -o wide", "get events -A --sort-by=.lastTimestamp",
	} {
		text, err := w.node.Ask(ctx, strings.Fields(question)...)
		if err != nil {
			text = err.Error()
		}
		w.Note("$ kubectl %s", question)
		w.Block(text)
	}
	for namespace, selector := range map[string]string{"cloud": "app=simulator", managerNamespace: "app.kubernetes.io/component=manager", line: "app"} {
		text, err := w.node.Ask(ctx, "-n", namespace, "logs", "--selector="+selector, "--prefix", fmt.Sprintf("--tail=%d", tailLines), "--ignore-errors")
		if err != nil {
			text = err.Error()
		}
		w.Note("The end of the logs in %s:", namespace)
		w.Block(text)
	}
}

// tidyUp takes away what the story has put into a cluster that stays.
func (w *world) tidyUp() error {
	ctx, cancel := context.WithTimeout(context.Background(), tidyWithin)
	defer cancel()
	_, line := w.node.Ask(ctx, "delete", "namespace", line, "--ignore-not-found")
	_, system := w.node.Ask(ctx, "delete", "namespace", "mqtt-system", "--ignore-not-found")
	_, operator := w.node.Ask(ctx, "delete", "-k", w.o.config, "--ignore-not-found")
	_, cloud := w.node.Ask(ctx, "delete", "namespace", "cloud", "--ignore-not-found")
	return errors.Join(line, system, operator, cloud)
}

// checkLeftovers fails if the cluster has not gone without a trace.
func (w *world) checkLeftovers() error {
	left, err := w.node.Leftovers()
	if err == nil && len(left) > 0 {
		err = fmt.Errorf("the cluster has left something behind: %q", left)
	}
	return err
}

// close stops the cluster. After a failure the logs stay; credentials never do.
func (w *world) close(failed bool) error {
	w.Line("\nStopping.")
	var err error
	if w.node != nil && !w.node.Ours() {
		err = w.tidyUp()
	}
	if w.forward != nil {
		w.forward.Stop()
	}
	if w.node != nil {
		err = errors.Join(err, w.node.Stop(), w.checkLeftovers())
	}
	if !failed && err == nil {
		return os.RemoveAll(w.folder)
	}
	kubeconfigs, glob := filepath.Glob(filepath.Join(w.folder, "*kubeconfig"))
	faults := []error{err, glob}
	for _, name := range kubeconfigs {
		faults = append(faults, os.Remove(name))
	}
	return errors.Join(faults...)
}
