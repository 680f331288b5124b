package budget

import (
	"sync"
	"time"
)

// AddressCeiling is how many calls per second all operations of all accounts make together. The service blocks an address
// that makes more than 300, and does not say whether it counts each operation for itself.
const AddressCeiling = 250

// Ceiling bounds all operations of all budgets that share it. It is safe for concurrent use; nil bounds nothing.
type Ceiling struct {
	mu     sync.Mutex
	limit  int
	window window
	next   time.Time // the first slot that nobody has booked
}

// NewCeiling returns a ceiling of so many calls per second, at least one.
func NewCeiling(perSecond int) *Ceiling { return &Ceiling{limit: max(1, perSecond)} }

func (c *Ceiling) interval() time.Duration { return interval(float64(c.limit)) }

// spacing is about how far apart the calls are of one that books again and again: half of the time until all that have
// booked a slot, and one more, have had theirs. Half, because its own last booking is among them and others book rarely;
// who comes back too early only asks once more, who comes too late leaves slots unused.
func (c *Ceiling) spacing(now time.Time) time.Duration {
	if c == nil {
		return 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return (max(0, c.next.Sub(now)) + c.interval()) / 2
}

// take counts n calls if they can be made now, and otherwise says when. The caller gives the slot that it has booked, if
// any, and keeps the one that comes back: so those who wait take turns. A slot that is not used for a grace is lost.
func (c *Ceiling) take(n int, booked, now time.Time) (slot, at time.Time) {
	if c == nil {
		return time.Time{}, now
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if booked.IsZero() || now.Sub(booked) > grace {
		booked = latest(c.next, now)
		c.next = booked.Add(time.Duration(n) * c.interval())
	}
	if at = latest(booked, c.window.room(n, c.limit, now)); at.After(now) {
		return booked, at
	}
	c.window.add(n, now)
	return time.Time{}, now
}

// count counts n calls that are made in any case.
func (c *Ceiling) count(n int, now time.Time) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.window.add(n, now)
}

func latest(times ...time.Time) time.Time {
	var last time.Time
	for _, t := range times {
		if t.After(last) {
			last = t
		}
	}
	return last
}
