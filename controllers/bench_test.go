package controllers_test

import (
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token/tokenfake"
)

// BenchmarkFleet prints what a fleet of grants costs: requests and calls per grant, the time from apply to Ready, memory
// per grant, and a restart.
func BenchmarkFleet(b *testing.B) {
	const size = 500
	for b.Loop() {
		w := newWorldAt(b, server)
		stopped := w.keepTime()
		w.credential("LTAI-one", "secret-one")
		i := w.instance()
		i.Spec.Quota.ApplyPerSecond = 100
		w.must(w.Create(b.Context(), i))
		w.run()
		w.eventuallyInstance("True", v1alpha1.ReasonConnected)
		w.settled()
		w.requests.take()
		before := heap()
		took := w.apply(size)
		w.settled()
		b.ReportMetric(float64(heap()-before)/size/1024, "KiB/grant")
		b.ReportMetric(float64(len(w.requests.take()))/size, "requests/grant")
		b.ReportMetric(float64(len(w.service.Calls(tokenfake.Apply)))/size, "applies/grant")
		b.ReportMetric(took[size/2].Seconds(), "s-to-Ready-p50")
		b.ReportMetric(took[size*99/100].Seconds(), "s-to-Ready-p99")
		w.eventually("counts that are up to date", func() bool {
			w.must(w.Get(b.Context(), keyOf(i), i))
			return i.Status.Grants.Ready != nil && *i.Status.Grants.Ready == size
		})
		w.stop()
		w.requests.take()
		w.run()
		w.settled()
		b.ReportMetric(float64(len(w.requests.take())), "requests/restart")
		w.stop()
		stopped()
	}
}

// keepTime lets the world's clock run with the real one.
func (w *world) keepTime() func() {
	done := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		last := time.Now()
		for {
			select {
			case <-done:
				return
			case now := <-tick.C:
				w.clock.SetTime(w.clock.Now().Add(now.Sub(last)))
				last = now
			}
		}
	})
	return func() { close(done); running.Wait() }
}

// apply creates grants, all at once, and returns how long each took to be Ready, sorted.
func (w *world) apply(size int) []time.Duration {
	w.t.Helper()
	watcher, err := client.NewWithWatch(w.server, client.Options{Scheme: testScheme(w.t)})
	w.must(err)
	changes, err := watcher.Watch(w.t.Context(), &v1alpha1.MqttTokenGrantList{}, client.InNamespace(w.namespace))
	w.must(err)
	defer changes.Stop()
	created := map[string]time.Time{}
	for n := range size {
		name := fmt.Sprintf("press-%04d", n)
		created[name] = time.Now()
		w.press(name)
	}
	var took []time.Duration
	for change := range changes.ResultChan() {
		grant, ok := change.Object.(*v1alpha1.MqttTokenGrant)
		if !ok || change.Type == watch.Deleted || len(grant.Status.Tokens) == 0 || created[grant.Name].IsZero() {
			continue
		}
		took = append(took, time.Since(created[grant.Name]))
		delete(created, grant.Name)
		if len(took) == size {
			break
		}
	}
	slices.Sort(took)
	return took
}

func heap() uint64 {
	runtime.GC() //nolint:revive // what is garbage does not count
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkTenThousand lives through an hour with ten thousand grants, edits and deletions among them, with and without
// controller-runtime's priority queue, and prints how many were left behind: none may be.
func BenchmarkTenThousand(b *testing.B) {
	const size, edited, deleted = 10_000, 3_000, 1_000
	for _, priority := range []bool{true, false} {
		b.Run(fmt.Sprintf("priorityQueue=%t", priority), func(b *testing.B) {
			for b.Loop() {
				w := newWorldAt(b, server)
				w.priorityQueue = &priority
				stopped := w.keepTime()
				w.credential("LTAI-one", "secret-one")
				i := w.instance()
				i.Spec.Quota.ApplyPerSecond = 100
				w.must(w.Create(b.Context(), i))
				w.run()
				w.eventuallyInstance("True", v1alpha1.ReasonConnected)
				before := heap()
				began := time.Now()
				for n := range size {
					w.press(fmt.Sprintf("press-%04d", n))
				}
				for w.leftBehind(size) > 0 && time.Since(began) < 10*time.Minute {
					<-time.After(time.Second)
				}
				b.ReportMetric(time.Since(began).Seconds(), "s-to-all-Ready")
				b.ReportMetric(float64(heap()-before)/size/1024, "KiB/grant")
				for n := range edited { // every one of them gets a new token
					g := w.grant(fmt.Sprintf("press-%04d", n))
					w.edit(g, func() { g.Spec.Topics[0].Filter += "/more" })
				}
				for n := range deleted {
					w.must(w.Delete(b.Context(), w.grant(fmt.Sprintf("press-%04d", size-1-n))))
				}
				churned := time.Now()
				left := w.leftBehind(size - deleted)
				for left > 0 && time.Since(churned) < 10*time.Minute {
					<-time.After(time.Second)
					left = w.leftBehind(size - deleted)
				}
				b.ReportMetric(time.Since(churned).Seconds(), "s-to-settle")
				b.ReportMetric(float64(left), "left-behind")
				w.stop()
				w.requests.take()
				w.run()
				w.settled()
				b.ReportMetric(float64(len(w.requests.take())), "requests/restart")
				w.stop()
				stopped()
			}
		})
	}
}

// leftBehind counts grants that are not what was asked for: not seen, not Ready, or there although deleted.
func (w *world) leftBehind(want int) int {
	w.t.Helper()
	var grants v1alpha1.MqttTokenGrantList
	w.must(w.List(w.t.Context(), &grants, client.InNamespace(w.namespace)))
	left := max(len(grants.Items)-want, want-len(grants.Items))
	for i := range grants.Items {
		g := &grants.Items[i]
		ready := slices.ContainsFunc(g.Status.Conditions, func(c metav1.Condition) bool {
			return c.Type == v1alpha1.ReadyCondition && c.Status == metav1.ConditionTrue
		})
		if g.DeletionTimestamp.IsZero() && (ptr.Deref(g.Status.ObservedGeneration, 0) != g.Generation || !ready) {
			left++
		}
	}
	return left
}
