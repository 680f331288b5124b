package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/mqtt-token-operator/mqtt-token-operator/test/cluster"
)

// app is an application in pods: the client of this story, told apart by what it logs.
type app struct {
	w    *world
	name string
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
	return &app{w: w, name: name}, nil
}

// expect waits for a line that matches, after those that the story has come past, and comes past it.
func (a *app) expect(ctx context.Context, pattern string, within time.Duration) (said, error) {
	wanted := regexp.MustCompile(pattern)
	var found said
	err := cluster.Eventually(ctx, within, func() (string, error) {
		lines, err := a.lines()
		if err != nil {
			return "", err
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
func (a *app) count(pattern string, from time.Time) (int, error) {
	lines, err := a.lines()
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

// lines reads what the pods of the application have logged: <time> <stream> <F|P> <text>.
func (a *app) lines() ([]said, error) {
	files, err := filepath.Glob(filepath.Join(a.w.logs(), fmt.Sprintf("*_%s-*", a.name), "*", "*.log"))
	if err != nil {
		return nil, err
	}
	var all []said
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("reading a pod's log: %w", err)
		}
		for line := range strings.Lines(string(text)) {
			parts := strings.SplitN(strings.TrimSpace(line), " ", 4)
			if len(parts) < 4 {
				continue // half written
			}
			at, err := time.Parse(time.RFC3339Nano, parts[0])
			if err != nil {
				return nil, fmt.Errorf("reading %s: %w", name, err)
			}
			all = append(all, said{at: at, text: parts[3]})
		}
	}
	slices.SortStableFunc(all, func(a, b said) int { return a.at.Compare(b.at) })
	return all, nil
}

func tail(name string) string { return cluster.Tail(name, tailLines) }
