package main

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/mqtt-token-operator/mqtt-token-operator/test/cluster"
)

// app is an application in pods: the client of this story, told apart by what it logs.
type app struct {
	w                         *world
	name, namespace, selector string
	// past is when the last line was logged that the story has come past. Lines themselves go with their pods.
	past time.Time
}

// said is a line of a log.
type said struct {
	at   time.Time
	text string
}

// deploy starts an application that mounts a Secret.
func (w *world) deploy(ctx context.Context, name, secret string, arguments ...string) (*app, error) {
	values := map[string]any{"Name": name, "Secret": secret, "Arguments": append([]string{"--folder=/etc/mqtt"}, arguments...)}
	if err := w.apply(ctx, "client.yaml", values); err != nil {
		return nil, err
	}
	return &app{w: w, name: name, namespace: line, selector: "app=" + name}, nil
}

// expect waits for a line that matches, after those that the story has come past, and comes past it.
func (a *app) expect(ctx context.Context, pattern string, within time.Duration) (said, error) {
	wanted := regexp.MustCompile(pattern)
	var found said
	err := cluster.Eventually(ctx, within, func() (string, error) {
		lines, err := a.lines(ctx)
		if err != nil {
			return err.Error(), nil //nolint:nilerr // there may be no pod yet
		}
		for _, l := range lines {
			if l.at.After(a.past) && wanted.MatchString(l.text) {
				found, a.past = l, l.at
				return "", nil
			}
		}
		last := "nothing"
		if len(lines) > 0 {
			last = lines[len(lines)-1].text
		}
		return fmt.Sprintf("%s did not log %q; it last logged %q", a.name, pattern, last), nil
	})
	return found, err
}

// count counts the lines that match, from a moment on.
func (a *app) count(ctx context.Context, pattern string, from time.Time) (int, error) {
	lines, err := a.lines(ctx)
	wanted, n := regexp.MustCompile(pattern), 0
	for _, l := range lines {
		if !l.at.Before(from) && wanted.MatchString(l.text) {
			n++
		}
	}
	return n, err
}

// skip comes past everything that was logged so far.
func (a *app) skip() { a.past = time.Now() }

// lines reads what the pods of the application have logged: <time> <text>.
func (a *app) lines(ctx context.Context) ([]said, error) {
	text, err := a.w.node.Ask(ctx, "-n", a.namespace, "logs", "--selector="+a.selector, "--timestamps", "--tail=-1", "--ignore-errors")
	if err != nil {
		return nil, fmt.Errorf("reading the logs of %s: %w", a.name, err)
	}
	var all []said
	for line := range strings.Lines(text) {
		stamp, words, found := strings.Cut(strings.TrimSpace(line), " ")
		at, err := time.Parse(time.RFC3339Nano, stamp)
		if !found || err != nil {
			continue // a pod that has no log yet says so
		}
		all = append(all, said{at: at, text: words})
	}
	slices.SortStableFunc(all, func(a, b said) int { return a.at.Compare(b.at) })
	return all, nil
}
