package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/mqtt-token-operator/mqtt-token-operator/test/cluster"
)

// applyExample applies an example as it is shipped, but for the image, and the network of a node without a plugin for it.
func (w *world) applyExample(ctx context.Context, folder, image string) error {
	objects, err := cluster.LoadFile(filepath.Join(w.o.examples, folder, "manifest.yaml"))
	if err != nil {
		return err
	}
	for _, workload := range cluster.OfKind(objects, "Deployment", "StatefulSet") {
		err := onNode(workload, image, func(container map[string]any) error {
			delete(container, "command") // the image knows its only program
			return nil
		})
		if err != nil {
			return fmt.Errorf("adapting %s: %w", folder, err)
		}
	}
	return w.node.ApplyAll(ctx, objects...)
}

func (w *world) runExamples(ctx context.Context) error {
	for folder, image := range map[string]string{"deployment": "go", "statefulset": "go", "env": "env"} {
		if err := w.applyExample(ctx, folder, image); err != nil {
			return err
		}
	}
	for _, question := range []string{
		"wait --for=condition=Ready mtg --all --timeout=60s",
		"rollout status deployment/workers --timeout=60s",
		"rollout status statefulset/robot --timeout=60s",
		"rollout status deployment/legacy --timeout=60s",
	} {
		if _, err := w.node.Ask(ctx, append([]string{"-n", line}, strings.Fields(question)...)...); err != nil {
			return err
		}
	}
	names, err := w.node.Ask(ctx, "-n", line, "get", "pods", "--selector=app=workers", "-o", "jsonpath={.items[*].metadata.name}")
	if err != nil {
		return err
	}
	wanted := []string{"GID_line_a@@@line-a-robot-0", "GID_line_a@@@line-a-robot-1", "GID_line_a@@@line-a-legacy"}
	for pod := range strings.FieldsSeq(names) {
		wanted = append(wanted, "GID_line_a@@@"+pod)
	}
	if err := w.awaitClients(ctx, wanted); err != nil {
		return err
	}
	w.Held("%d pods are connected, each under a client id of its own", len(wanted))
	for _, id := range wanted {
		w.Note("%s", id)
	}
	return w.renewOneOfMany(ctx)
}

// awaitClients waits until the broker knows some clients.
func (w *world) awaitClients(ctx context.Context, wanted []string) error {
	return cluster.Eventually(ctx, podWithin, func() (string, error) {
		connected, err := w.cloud.clients(ctx)
		if err != nil {
			return "", err
		}
		for _, id := range wanted {
			if !slices.Contains(connected, id) {
				return fmt.Sprintf("%s is not connected, but %q", id, connected), nil
			}
		}
		return "", nil
	})
}

// renewOneOfMany renews the tokens of one pod of a set. They reach its folder in a volume that all have.
func (w *world) renewOneOfMany(ctx context.Context) error {
	began := time.Now()
	if err := w.reissue(ctx, "robot-0"); err != nil {
		return err
	}
	robot := &app{w: w, name: "robot-0", namespace: line, selector: "statefulset.kubernetes.io/pod-name=robot-0", past: began}
	uploaded, err := robot.expect(ctx, "^uploaded new tokens", seenWithin)
	if err != nil {
		return err
	}
	w.Held("new tokens of the first pod of the set came into its folder, and it uploaded them, after %s", uploaded.at.Sub(began).Round(time.Second))
	other := &app{w: w, name: "robot-1", namespace: line, selector: "statefulset.kubernetes.io/pod-name=robot-1"}
	if n, err := other.count(ctx, "^(uploaded|not connected)", began); err != nil || n > 0 {
		return fmt.Errorf("the other pod of the set took %d new tokens: %w", n, err)
	}
	return nil
}

// restartConsumer renews the tokens of a program that only knows its environment: the operator has its pod replaced.
func (w *world) restartConsumer(ctx context.Context) error {
	began := time.Now()
	if err := w.reissue(ctx, "legacy"); err != nil {
		return err
	}
	legacy := &app{w: w, name: "legacy", namespace: line, selector: "app=legacy", past: began}
	connected, err := legacy.expect(ctx, "^connected with tokens until ", podWithin)
	if err != nil {
		return err
	}
	ends, err := w.node.Ask(ctx, "-n", line, "get", "secret/legacy-mqtt", "-o", "go-template={{.data.MQTT_EXPIRES_AT | base64decode}}")
	if err != nil {
		return err
	}
	if !strings.HasSuffix(connected.text, ends) {
		return fmt.Errorf("the new pod %s, and the Secret's end at %s", connected.text, ends)
	}
	w.Held("Deployment legacy has a new pod, and that is connected with the new tokens, %s after they were asked for", connected.at.Sub(began).Round(100*time.Millisecond))
	return nil
}
