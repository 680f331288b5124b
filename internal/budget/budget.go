// Package budget spreads calls evenly over an account's quota. A caller that has to wait is told until when and comes
// back; it never blocks.
package budget

import (
	"sync"
	"time"
)

// Operation names a kind of call with a quota of its own.
type Operation string

// The three operations.
const (
	Apply  Operation = "Apply"
	Query  Operation = "Query"
	Revoke Operation = "Revoke"
)

// keepUnclaimed is how long a place in the queue is kept for a caller that does not come back.
const keepUnclaimed = time.Minute

// Budget hands out places in one queue per operation. It is safe for concurrent use.
type Budget struct {
	mu     sync.Mutex
	queues map[Operation]*queue
}

type queue struct {
	interval time.Duration
	next     time.Time
	places   map[string]time.Time
}

// New returns a budget of so many calls per second for each operation. An operation that is not listed is not bounded.
func New(perSecond map[Operation]int32) *Budget {
	b := &Budget{queues: map[Operation]*queue{}}
	for operation, rate := range perSecond {
		b.queues[operation] = &queue{interval: time.Second / time.Duration(max(1, rate)), places: map[string]time.Time{}}
	}
	return b
}

// Take asks for n calls in a row on behalf of the caller id. Zero means: call now, and say Done. Anything else is how
// long to stay away; who comes back with the same id has kept its place. Asking again changes nothing, so a caller may
// ask before it prepares a call and once more before it makes it.
func (b *Budget) Take(operation Operation, id string, n int, now time.Time) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	q, bounded := b.queues[operation]
	if !bounded {
		return 0
	}
	place, waiting := q.places[id]
	if !waiting {
		place = q.next
		if place.Before(now) {
			place = now
			q.forgetUnclaimed(now)
		}
		q.next = place.Add(q.interval * time.Duration(n))
		q.places[id] = place
	}
	return max(0, place.Sub(now))
}

// Done gives up a place: its calls were made, or are not wanted any more.
func (b *Budget) Done(operation Operation, id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if q, bounded := b.queues[operation]; bounded {
		delete(q.places, id)
	}
}

// forgetUnclaimed runs when the queue is empty, so that callers which vanished do not pile up.
func (q *queue) forgetUnclaimed(now time.Time) {
	for id, place := range q.places {
		if now.Sub(place) > keepUnclaimed {
			delete(q.places, id)
		}
	}
}
