package budget

import "time"

// state is what became of an ask.
type state int

const (
	// unplaced asks are being looked at.
	unplaced state = iota
	// waiting asks are in the order, and so are late ones: they should be back.
	waiting
	late
	// absent asks did not come back and are not counted any more.
	absent
	// granted asks may make their calls.
	granted
)

// ask is what is known of a caller.
type ask struct {
	id       string
	lane     Lane
	deadline time.Time
	asked    time.Time
	arrived  uint64

	state state
	// need is how many calls are still to be granted, granted how many were, counted when they last were counted.
	need    int
	granted int
	counted time.Time
	// due is when the caller was told to come back. held is from when on it holds its slot; zero: it was not told the slot.
	due  time.Time
	held time.Time
	// until is when the state changes if the caller does not come back; index is the ask's place in the agenda.
	until time.Time
	index int

	// The tree.
	left, right *ask
	sum         summary
}

// isQueued reports whether the ask is in the order.
func (a *ask) isQueued() bool { return a.state == waiting || a.state == late }

// isInvited reports whether the caller was told its slot, and that by now.
func (a *ask) isInvited(now time.Time) bool { return !a.held.IsZero() && !a.due.After(now) }

func (a *ask) goesBefore(b *ask) bool {
	switch {
	case a.lane != b.lane:
		return a.lane < b.lane
	case a.deadline.Equal(b.deadline):
		return a.arrived < b.arrived
	case a.deadline.IsZero() || b.deadline.IsZero():
		return b.deadline.IsZero()
	}
	return a.deadline.Before(b.deadline)
}

// weight is a hash of the order of arrival.
func (a *ask) weight() uint64 {
	x := a.arrived * 0x9E3779B97F4A7C15
	x = (x ^ x>>32) * 0xD6E8FEB86659FD93
	return x ^ x>>32
}

func (a *ask) own() summary {
	s := summary{calls: a.need}
	if !a.held.IsZero() {
		s.holder = a
		if a.state == waiting {
			s.next = a
		}
	}
	return s
}

func (a *ask) total() summary {
	if a == nil {
		return summary{}
	}
	return a.sum
}

func (a *ask) sumUp() { a.sum = a.left.total().and(a.own()).and(a.right.total()) }

// agenda is a heap of asks by the time at which their state changes.
type agenda []*ask

// Len is part of heap.Interface.
func (g agenda) Len() int { return len(g) }

// Less is part of heap.Interface.
func (g agenda) Less(i, j int) bool { return g[i].until.Before(g[j].until) }

// Swap is part of heap.Interface.
func (g agenda) Swap(i, j int) {
	g[i], g[j] = g[j], g[i]
	g[i].index, g[j].index = i, j
}

// Push is part of heap.Interface.
func (g *agenda) Push(x any) {
	a, _ := x.(*ask) //nolint:errcheck // only asks are pushed
	a.index = len(*g)
	*g = append(*g, a)
}

// Pop is part of heap.Interface.
func (g *agenda) Pop() any {
	last := len(*g) - 1
	a := (*g)[last]
	(*g)[last] = nil
	*g = (*g)[:last]
	return a
}
