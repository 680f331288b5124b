package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// inject carries one fault out and returns a line about it.
type inject func(ctx context.Context, f fault) (string, error)

// lane carries faults out one after the other, until the context ends. What cannot be done is told; it is no violation.
func (w *world) lane(ctx context.Context, faults []fault, how map[kind]inject) {
	for _, f := range faults {
		select {
		case <-ctx.Done():
			return
		case <-time.After(f.pause):
		}
		began := time.Now()
		w.say("> %s", f.kind)
		line, err := how[f.kind](context.WithoutCancel(ctx), f)
		took := time.Since(began).Round(100 * time.Millisecond)
		if err != nil {
			w.say("< %s was not possible: %v", f.kind, err)
			continue
		}
		w.settings.update(func(s *figures) { s.faults[f.kind]++ })
		w.say("< %s: %s (%s)", f.kind, line, took)
	}
}

// wait lets time pass.
func wait(d time.Duration) { time.Sleep(d) } //nolint:forbidigo // the run works in real time

// target picks a grant.
func (f fault) target(die int) types.NamespacedName {
	all := targets()
	return all[f.among(die, len(all))]
}

// number is which one of the fleet a grant is.
func number(key types.NamespacedName) int {
	for n, k := range grantKeys() {
		if k == key {
			return n
		}
	}
	return 0
}

func names(keys []types.NamespacedName) string {
	var all []string
	for _, key := range keys {
		all = append(all, key.String())
	}
	return fmt.Sprintf("%d grants, %s ...", len(keys), strings.Join(all[:min(3, len(all))], " "))
}
