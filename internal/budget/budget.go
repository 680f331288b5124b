// Package budget spreads calls over the quota of an account. Who has to wait is told how long to stay away and comes
// back; nothing here blocks, and the time is passed in.
//
// The rules:
//
//   - In no second are more calls granted than the rate, counted over any second and not only over whole ones. Slots are
//     evenly spaced; whoever comes a little late to its slot does not push back those behind it. A quiet time earns nothing.
//   - The smaller lane goes first, then the earlier deadline, then who asked first.
//   - Who was told the moment of its slot holds it, from so long before that moment that its calls still fit until a grace
//     of a second after it: against the lanes behind, and against those of its own lane that come unasked, early or for the
//     first time. Those of its own lane that were told to come by now let it go first only until it is late.
//   - No free slot is refused to those who ask for longer than a grace, however many that hold it stay away.
//   - Who would wait long is told half of it, holds nothing, and is told anew when it comes back.
//   - Who is late by more than the grace is no longer counted in the queue, but keeps its place in the order of asking for a
//     minute. Then it is forgotten.
//   - A call counts from its grant. Who makes it noticeably later is counted again then, and waits anew if as many as a
//     second may hold come late together. Calls that reach the service unevenly late can still be a little closer there: a
//     quota should not be stated to its last call.
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

// Lane orders the asks of one operation: the smaller goes first, always.
type Lane int

// The lanes of Apply.
const (
	// ApplyExpiring is for a grant whose token ends soon.
	ApplyExpiring Lane = iota
	// ApplyFirst is for a grant that has no token yet.
	ApplyFirst
	// ApplyRoutine is for a renewal in good time.
	ApplyRoutine
)

// The lanes of Revoke.
const (
	// RevokeNow is for tokens that a person wants cut off.
	RevokeNow Lane = iota
	// RevokeDue is for tokens that allow too much and whose overlap is over.
	RevokeDue
	// RevokeDeleted is for the tokens of a deleted grant.
	RevokeDeleted
	// RevokeHandedOver is for what no grant waits for any more.
	RevokeHandedOver
)

// The lanes of Query.
const (
	// QueryCheck is for the check of a connection.
	QueryCheck Lane = iota
	// QueryVerify is for looking whether tokens are still valid.
	QueryVerify
)

// Ask asks for the right to make calls.
type Ask struct {
	Operation Operation
	// Lane and Deadline say who goes first. No deadline comes after every other.
	Lane     Lane
	Deadline time.Time
	// ID is the caller, the same each time it comes back.
	ID string
	// N is how many calls are made in a row, at least one. Rows cost throughput where the rate is small: of four calls per
	// second, rows of three leave one unused. More than a second may hold are granted when nothing else was for a second; only
	// the caller can keep that from being too many, by asking for less.
	N int
}

// Budget hands out the calls of one account. It is safe for concurrent use.
type Budget struct {
	mu      sync.Mutex
	lines   map[Operation]*line
	start   slowStart
	ceiling *Ceiling
}

// New returns a budget of so many calls per second for each operation. An operation that is not listed is bounded by the
// ceiling only, and by nothing if that is nil.
func New(ceiling *Ceiling, perSecond map[Operation]int32) *Budget {
	b := &Budget{lines: map[Operation]*line{}, ceiling: ceiling}
	for operation, n := range perSecond {
		b.line(operation).rate.configure(n)
	}
	return b
}

// Take asks on behalf of a caller. Zero means: make the calls now, then say Done. Anything else is how long to stay away.
//
// A caller that asks again keeps its place in the order of asking; its lane, deadline and number of calls become the new
// ones. A caller that was granted its calls is granted them again until it says Done, for a minute, so that it may ask
// before it prepares them and once more right before it makes them. It waits anew if too many come so late
// together.
func (b *Budget) Take(ask Ask, now time.Time) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.line(ask.Operation)
	l.expire(now)
	return l.take(ask, now)
}

// Done says that the calls were made, or are not wanted any more. A caller that has no use for its place says it, too:
// until it would have come back, the others wait behind it.
func (b *Budget) Done(operation Operation, id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.line(operation).drop(id)
}

// Throttled says that the service refused a call for too many calls. The operation's rate is halved, once for all
// refusals of a second and not below a sixteenth of what is configured, and comes back slowly.
func (b *Budget) Throttled(operation Operation, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.line(operation).rate.throttled(now)
}

// Resume says that the service can be called again after the delay. Until then nobody is granted anything; then the rates
// rise from a quarter to all of themselves within half a minute.
func (b *Budget) Resume(now time.Time, delay time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.start.from = now.Add(delay)
}

// Resize changes the rates. Whoever waits goes on waiting, and is told anew when it comes back.
func (b *Budget) Resize(perSecond map[Operation]int32, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for operation := range perSecond {
		b.line(operation)
	}
	for operation, l := range b.lines {
		l.expire(now)
		if n, listed := perSecond[operation]; listed {
			l.rate.configure(n)
		} else {
			l.rate.configured = 0
		}
	}
}

// line is what the budget knows of an operation, listed or not.
func (b *Budget) line(operation Operation) *line {
	l, known := b.lines[operation]
	if !known {
		l = &line{start: &b.start, ceiling: b.ceiling, asks: map[string]*ask{}}
		b.lines[operation] = l
	}
	return l
}
