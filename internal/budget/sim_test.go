package budget_test

import (
	"cmp"
	"container/heap"
	"math/rand/v2"
	"time"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/budget"
)

// epoch is when every simulation starts.
var epoch = time.Date(2026, 3, 1, 9, 41, 13, 271828, time.UTC)

// caller is a reconciler in miniature: it asks, stays away as long as it is told, and asks again.
type caller struct {
	ask    budget.Ask
	budget *budget.Budget
	// comes is when it first asks, late how much later than told it comes back each time.
	comes time.Duration
	late  func() time.Duration
	// prepares is how long it takes from its grant to its calls; right before them it asks once more.
	prepares time.Duration
	// vanishes is how often it asks before it is never heard of again; zero: it does not vanish.
	vanishes int
	// woken are moments at which something else makes it ask.
	woken []time.Duration

	visit  int // the one that counts; earlier plans to come back are off
	takes  int
	called bool
	at     time.Duration // of its calls
}

// call is what the service sees.
type call struct {
	at  time.Duration
	who *caller
}

// simulation is a clock that jumps from one event to the next.
type simulation struct {
	now    time.Duration
	events events
	calls  []call
	takes  int
	plans  int
}

func (s *simulation) time() time.Time { return epoch.Add(s.now) }

func (s *simulation) at(when time.Duration, what func()) {
	s.plans++
	heap.Push(&s.events, event{at: when, seq: s.plans, what: what})
}

func (s *simulation) add(callers ...*caller) {
	for _, c := range callers {
		s.at(c.comes, func() { s.poll(c) })
		for _, when := range c.woken {
			s.at(when, func() { s.poll(c) })
		}
	}
}

func (s *simulation) run(until time.Duration) {
	for len(s.events) > 0 && s.events[0].at <= until {
		next, _ := heap.Pop(&s.events).(event)
		s.now = next.at
		next.what()
	}
	s.now = until
}

func (s *simulation) poll(c *caller) {
	if c.called || c.vanishes > 0 && c.takes >= c.vanishes {
		return
	}
	c.takes++
	s.takes++
	c.visit++
	visit := c.visit
	if wait := c.budget.Take(c.ask, s.time()); wait > 0 {
		if c.late != nil {
			wait += c.late()
		}
		s.at(s.now+wait, func() {
			if c.visit == visit {
				s.poll(c)
			}
		})
		return
	}
	s.at(s.now+c.prepares, func() {
		if !c.called && c.visit == visit {
			s.call(c)
		}
	})
}

func (s *simulation) call(c *caller) {
	if c.prepares > 0 {
		if wait := c.budget.Take(c.ask, s.time()); wait > 0 { // too many were late together
			s.at(s.now+wait, func() { s.poll(c) })
			return
		}
	}
	c.called, c.at = true, s.now
	for range max(1, c.ask.N) {
		s.calls = append(s.calls, call{at: s.now, who: c})
	}
	c.budget.Done(c.ask.Operation, c.ask.ID)
}

type event struct {
	at   time.Duration
	seq  int
	what func()
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return cmp.Or(cmp.Compare(e[i].at, e[j].at), cmp.Compare(e[i].seq, e[j].seq)) < 0
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

// uniform is a lateness from zero to the most.
func uniform(r *rand.Rand, most time.Duration) func() time.Duration {
	return func() time.Duration { return time.Duration(r.Int64N(int64(most) + 1)) }
}

// busiest is the most calls in any one second, as the service counts.
func busiest(calls []call) int {
	most, first := 0, 0
	for i, c := range calls {
		for calls[first].at <= c.at-time.Second {
			first++
		}
		most = max(most, i-first+1)
	}
	return most
}

// between counts the calls from one moment to another.
func between(calls []call, from, to time.Duration) int {
	n := 0
	for _, c := range calls {
		if c.at >= from && c.at < to {
			n++
		}
	}
	return n
}
