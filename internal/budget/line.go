package budget

import (
	"container/heap"
	"time"
)

const (
	// grace is how long a caller that is late holds its slot against those that may not take its place.
	grace = time.Second
	// memory is how long a caller is remembered that does not come back, or does not say Done.
	memory = time.Minute
	// patience is the longest time that a caller is told as it is. Longer ones are halved: meanwhile others may go away or
	// come in between, or the rate may change.
	patience = 10 * time.Second
	// slack is by how much a caller may come late to its slot without pushing back those behind it.
	slack = 100 * time.Millisecond
	// punctual is which part of an interval after its slot a caller is not late yet. In its own lane, a late one is not
	// waited for; a larger part would leave slots unused where callers come unevenly.
	punctual = 8
	// blink is the shortest time that a caller is told.
	blink = time.Millisecond
)

// line is the queue of one operation.
type line struct {
	start   *slowStart
	ceiling *Ceiling

	rate   rate
	window window
	// again holds those calls of the window that were made later than they were granted.
	again window
	// slot is what the last grant was charged for, cost how many calls it was for.
	slot time.Time
	cost int
	// booked is the line's place under the ceiling; zero: none.
	booked time.Time
	// turnedAway is when somebody was first turned away from the free slot because another holds it; zero: nobody was.
	turnedAway time.Time

	asks     map[string]*ask
	order    order  // those that wait
	agenda   agenda // all
	arrivals uint64
}

func (l *line) take(in Ask, now time.Time) time.Duration {
	a := l.find(in.ID, now)
	if a.isQueued() {
		l.order.remove(a)
	}
	if l.isOvertaken(a, now) {
		a.granted = 0
	}
	a.lane, a.deadline, a.need = in.Lane, in.Deadline, max(1, in.N)-a.granted
	if a.need <= 0 {
		l.grantAgain(a, now)
		return 0
	}
	at := l.turn(a, now)
	if !at.After(now) {
		l.grant(a, now)
		return 0
	}
	wait := max(at.Sub(now), blink)
	a.held = at.Add(-time.Duration(a.need) * l.spacing(now, now))
	if wait > patience {
		wait, a.held = wait/2, time.Time{}
	}
	a.state, a.due = waiting, now.Add(wait)
	l.order.insert(a)
	l.changeAt(a, a.due.Add(min(l.spacing(now, now)/punctual, grace)))
	return wait
}

// turn is when the ask may be granted, as far as that can be foreseen; not after now: at once.
func (l *line) turn(a *ask, now time.Time) time.Time {
	ahead := l.order.sum(func(other *ask) bool { return other.goesBefore(a) })
	if free := l.free(a.need, now); free.After(now) {
		return free.Add(l.duration(ahead.calls, free, now))
	}
	if h := l.holder(a, ahead, now); h != nil && !h.held.After(now) {
		if l.turnedAway.IsZero() {
			l.turnedAway = now
		}
		if now.Sub(l.turnedAway) < grace {
			// The later the holder is, the less it is worth to ask often.
			again := min(now.Sub(h.due), h.due.Add(grace).Sub(now))
			return now.Add(max(again, l.duration(ahead.calls, now, now)))
		}
	}
	var at time.Time
	if l.booked, at = l.ceiling.take(a.need, l.booked, now); at.After(now) {
		return at.Add(l.duration(ahead.calls, at, now))
	}
	return now
}

// free is when the operation's own rate has room for n calls.
func (l *line) free(n int, now time.Time) time.Time {
	room := l.window.room(n, wholeCalls(l.rate.at(now, *l.start)), now)
	return latest(l.next(now), l.start.from, room)
}

// next is the slot after the one that was granted last.
func (l *line) next(now time.Time) time.Time {
	return l.slot.Add(time.Duration(l.cost) * interval(l.rate.at(now, *l.start)))
}

// holder is the ask that holds the next slot against a, now or later; nil: none does. Within a lane, those that were told
// to come by now do not wait for those that are late: a strict order would leave slots unused wherever callers come late
// by more than an interval.
func (l *line) holder(a *ask, ahead summary, now time.Time) *ask {
	switch {
	case !a.isInvited(now):
		return ahead.holder
	case ahead.next != nil && !ahead.next.due.After(now):
		return ahead.next
	}
	return l.order.sum(func(other *ask) bool { return other.lane < a.lane }).holder
}

// spacing is how far apart calls will be at a time, by the operation's rate then and what is going on under the ceiling
// now.
func (l *line) spacing(at, now time.Time) time.Duration {
	return max(interval(l.rate.at(at, *l.start)), l.ceiling.spacing(now))
}

// duration is how long so many calls take from a time on. The rate may rise meanwhile, so that of half way counts.
func (l *line) duration(calls int, from, now time.Time) time.Duration {
	halfWay := from.Add(time.Duration(calls) * l.spacing(from, now) / 2)
	return time.Duration(calls) * l.spacing(halfWay, now)
}

// grant charges the ask for a slot. A caller that waited and comes a little late is charged for the slot, not for coming
// late; slots that nobody waited for are gone.
func (l *line) grant(a *ask, now time.Time) {
	l.slot = latest(l.next(now), l.start.from, a.asked, now.Add(-slack))
	l.cost, l.turnedAway = a.need, time.Time{}
	l.window.add(a.need, now)
	a.state, a.granted, a.counted = granted, a.granted+a.need, now
	l.changeAt(a, now.Add(memory))
}

// isOvertaken reports whether a caller that makes its calls later than they were granted comes together with too many
// others that do: an API server that hangs lets all of them go on at once. Those that are granted meanwhile do not count
// here, for each of them would hold up one that was granted before it, and be held up itself in the end.
func (l *line) isOvertaken(a *ask, now time.Time) bool {
	limit := wholeCalls(l.rate.at(now, *l.start))
	return a.granted > 0 && now.Sub(a.counted) >= slack && l.again.room(a.granted, limit, now).After(now)
}

// grantAgain counts the calls anew if they are made later than they were granted.
func (l *line) grantAgain(a *ask, now time.Time) {
	if a.state != granted { // it waited for more calls than it needs now
		a.state = granted
		l.changeAt(a, a.counted.Add(memory))
	}
	if now.Sub(a.counted) < slack {
		return
	}
	a.counted = now
	l.window.add(a.granted, now)
	l.again.add(a.granted, now)
	l.ceiling.count(a.granted, now)
}

func (l *line) find(id string, now time.Time) *ask {
	a, known := l.asks[id]
	if !known {
		l.arrivals++
		a = &ask{id: id, asked: now, arrived: l.arrivals}
		l.asks[id] = a
		heap.Push(&l.agenda, a)
	}
	return a
}

func (l *line) drop(id string) {
	a, known := l.asks[id]
	if !known {
		return
	}
	if a.isQueued() {
		l.order.remove(a)
	}
	heap.Remove(&l.agenda, a.index)
	delete(l.asks, id)
}

func (l *line) changeAt(a *ask, at time.Time) {
	a.until = at
	heap.Fix(&l.agenda, a.index)
}

// expire moves on those that did not come back, or said nothing after their grant.
func (l *line) expire(now time.Time) {
	for len(l.agenda) > 0 && !l.agenda[0].until.After(now) {
		switch a := l.agenda[0]; a.state {
		case waiting:
			l.order.remove(a)
			a.state = late
			l.order.insert(a)
			l.changeAt(a, a.due.Add(grace))
		case late:
			l.order.remove(a)
			a.state = absent
			l.changeAt(a, a.due.Add(memory))
		case unplaced, absent, granted:
			l.drop(a.id)
		}
	}
}
