package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/credsecret"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/killpoint"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/ledger"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/simulator/state"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/simulator/wire"
	"github.com/mqtt-token-operator/mqtt-token-operator/test/cluster"
)

const (
	processLane, workLane = 1, 2
	// calmFor lets retries end before everything is deleted.
	calmFor = 10 * time.Second
	// emptyWithin is how long everything may take to go: a hundred tokens, four a second, deadline and all.
	emptyWithin = 2 * time.Minute
)

var errViolated = errors.New("promises were broken")

// run sets everything up, injects faults, looks back and reports.
func run(ctx context.Context, o options, out io.Writer) (err error) {
	folder, err := os.MkdirTemp("", "mqtt-token-chaos-")
	if err != nil {
		return fmt.Errorf("making a folder to work in: %w", err)
	}
	w := newWorld(o, folder, out)
	w.say("seed %d, %v minutes; logs: %s", o.seed, o.minutes, folder)
	defer func() { err = errors.Join(err, w.close(err != nil)) }()
	if err := w.start(ctx); err != nil {
		return err
	}
	w.observe(ctx)
	text, violations := w.table(w.figures())
	w.tell("\nSeed %d\n\n%s", o.seed, text)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if violations > 0 {
		w.tell("\n%s\n", strings.Join(w.all(), "\n"))
		return fmt.Errorf("%w, %d times; seed %d, logs in %s", errViolated, violations, o.seed, folder)
	}
	return nil
}

// observe watches everything while the faults come and while the fleet is taken down.
func (w *world) observe(ctx context.Context) {
	watching, stop := context.WithCancel(ctx)
	defer stop()
	var watchers, clients, lanes sync.WaitGroup
	watchers.Go(func() { w.keepTime(watching) })
	watchers.Go(func() { w.follow(watching, credsecret.Type, w.seeTokens) })
	watchers.Go(func() { w.follow(watching, ledger.Type, w.seeLedger) })
	watchers.Go(func() { w.sample(watching) })
	talking, silence := context.WithCancel(ctx)
	defer silence()
	for _, key := range clientKeys() {
		clients.Go(func() { w.converse(talking, key) })
	}
	injecting, enough := context.WithTimeout(ctx, w.o.length())
	defer enough()
	work := w.serviceFaults()
	maps.Copy(work, w.editFaults())
	maps.Copy(work, w.secretFaults())
	maps.Copy(work, w.deleteFaults())
	lanes.Go(func() {
		w.lane(injecting, schedule(w.o.seed, processLane, only(processKinds(), w.o.only), 2*time.Second, 6*time.Second), w.processFaults())
	})
	lanes.Go(func() {
		w.lane(injecting, schedule(w.o.seed, workLane, only(workKinds(), w.o.only), time.Second, 4*time.Second), work)
	})
	lanes.Wait()
	w.errands.Wait()
	w.say("no more faults")
	wait(calmFor)
	silence()
	clients.Wait()
	w.takeDown(ctx)
	w.lookBack(ctx)
	stop()
	watchers.Wait()
}

// takeDown deletes everything and waits until nothing is left.
func (w *world) takeDown(ctx context.Context) {
	w.say("deleting everything")
	for _, name := range namespaces() {
		namespace := &corev1.Namespace{}
		namespace.Name = name
		if err := w.remove(ctx, namespace); err != nil {
			w.violated(nothing, "%v", err)
		}
	}
	for _, name := range instanceNames() {
		instance := &v1alpha1.MqttInstance{}
		instance.Namespace, instance.Name = platform, name
		if err := w.remove(ctx, instance); err != nil {
			w.violated(nothing, "%v", err)
		}
	}
	err := cluster.Eventually(ctx, emptyWithin, func() (string, error) { return w.left(ctx), nil })
	w.checked(nothing, 1)
	if err != nil {
		w.violated(nothing, "%v\n%s", err, strings.Join(w.pagesOf(ctx, ""), "\n"))
	}
}

// left says what is still there.
func (w *world) left(ctx context.Context) string {
	s, err := w.snapshot(ctx)
	if err != nil {
		return err.Error()
	}
	var namespaceList corev1.NamespaceList
	var instanceList v1alpha1.MqttInstanceList
	if err := errors.Join(w.api.List(ctx, &namespaceList), w.api.List(ctx, &instanceList)); err != nil {
		return err.Error()
	}
	var there []string
	for _, n := range namespaceList.Items {
		if slices.Contains(namespaces(), n.Name) {
			there = append(there, "namespace "+n.Name)
		}
	}
	alive := w.alive()
	w.mu.Lock()
	orphans := w.book.orphans(alive)
	w.mu.Unlock()
	counts := []struct {
		what  string
		count int
	}{
		{"grants", len(s.grants)},
		{"token Secrets", len(s.secrets)},
		{"pages of the ledger", len(s.pages)},
		{"instances", len(instanceList.Items)},
		{"live tokens that are no orphans", len(alive) - len(orphans)},
	}
	for _, c := range counts {
		if c.count > 0 {
			there = append(there, fmt.Sprintf("%d %s", c.count, c.what))
		}
	}
	for _, id := range alive {
		if !slices.Contains(orphans, id) {
			there = append(there, "token "+w.describe(id))
			break
		}
	}
	return strings.Join(there, ", ")
}

// lookBack looks for secrets where none may be.
func (w *world) lookBack(ctx context.Context) {
	for _, name := range w.managers.logFiles() {
		text, err := os.ReadFile(name)
		if err != nil {
			w.violated(discreet, "%v", err)
			continue
		}
		w.checked(discreet, 1)
		if w.texts.in(string(text)) {
			w.violated(discreet, "%s holds a secret", name)
		}
		w.noteTrouble(name, string(text))
	}
	var events corev1.EventList
	if err := w.api.List(ctx, &events); err != nil && !apierrors.IsNotFound(err) {
		w.say("%v", err)
	}
	for _, event := range events.Items {
		w.checked(discreet, 1)
		if w.texts.in(event.Message) {
			w.violated(discreet, "event %s/%s holds a secret", event.Namespace, event.Name)
		}
	}
}

// noteTrouble tells of what is no violation but should not be in a log.
func (w *world) noteTrouble(name, text string) {
	for line := range strings.Lines(text) {
		forbidden := strings.Contains(line, " is forbidden: ") && !strings.Contains(line, "being terminated")
		if forbidden || strings.Contains(line, "panic") {
			w.say("%s: %.300s", name, strings.TrimSpace(line))
			return
		}
	}
}

// reachedPoints tells how many managers died at a kill point, and at which points none did.
func reachedPoints(reached map[killpoint.Point]int) string {
	deaths, never := 0, []string{}
	for _, point := range killpoint.Points() {
		deaths += reached[point]
		if reached[point] == 0 {
			never = append(never, string(point))
		}
	}
	return fmt.Sprintf("%d; %s", deaths, cmp.Or(strings.Join(never, " "), "none"))
}

// figures are the lines below the table.
func (w *world) figures() [][2]string {
	calls, peaks, repeated := w.cloud.Calls(), w.cloud.Peaks(), again(w.revocations())
	alive := w.alive()
	w.mu.Lock()
	orphans, left, excused := len(w.book.lost)+len(w.book.leftBehind), len(w.book.orphans(alive)), len(w.book.excused)
	unheard := w.repeats.lost
	unread, up, ended, longest, slowest := w.book.unread, w.up, w.endings.ended, w.endings.longest, w.endings.slowest
	w.mu.Unlock()
	w.settings.mu.Lock()
	defer w.settings.mu.Unlock()
	f := &w.settings
	rows := [][2]string{
		{"applies / failed", fmt.Sprintf("%d / %d", calls[state.Apply].Total, calls[state.Apply].Failed)},
		{"revokes / failed", fmt.Sprintf("%d / %d", calls[state.Revoke].Total, calls[state.Revoke].Failed)},
		{"most calls in a second: apply, revoke, all", fmt.Sprintf("%d, %d, %d", peaks[state.Apply], peaks[state.Revoke], peaks[wire.AllOperations])},
		{"leaders that ended", fmt.Sprint(f.deaths)},
		{"takeovers; longest time without a leader", fmt.Sprintf("%d; %s", f.takeovers, f.leaderless.Round(100*time.Millisecond))},
		{"longest takeover after SIGTERM", f.takeover.Round(100 * time.Millisecond).String()},
		{"working time", up.Round(time.Second).String()},
		{"deaths at kill points; points never reached", reachedPoints(f.reached)},
		{"tokens revoked again; replies about that lost", fmt.Sprintf("%d; %d", repeated, unheard)},
		{"orphans; most by one death; by SIGTERM", fmt.Sprintf("%d; %d; %d", orphans, f.mostLost, f.lostByTerm)},
		{"replies lost; orphans alive at the end", fmt.Sprintf("%d; %d", unread, left)},
		{"tokens whose record we destroyed", fmt.Sprint(excused)},
		{"grants deleted; longest", fmt.Sprintf("%d; %s (%s)", ended, longest.Round(time.Second), slowest)},
		{"longest life beyond the overlap", fmt.Sprintf("%s (%s)", f.worstLate.Round(100*time.Millisecond), f.worstLateGrant)},
		{"clients: publications; connections; longest gap", fmt.Sprintf("%d; %d; %s", f.publications, f.reconnects, f.clientGap.Round(100*time.Millisecond))},
		{"versions of token Secrets seen", fmt.Sprint(f.versions)},
		{"secrets looked for", fmt.Sprint(w.texts.count())},
	}
	for _, k := range slices.Concat(processKinds(), workKinds()) {
		rows = append(rows, [2]string{"fault " + string(k), fmt.Sprint(f.faults[k])})
	}
	return rows
}
