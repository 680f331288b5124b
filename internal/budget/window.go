package budget

import "time"

// second is the time over which the service counts.
const second = time.Second

// window holds the calls of the last second. Slots that are evenly spaced bound calls that are made one at a time and
// on time; this bounds them in any case.
type window struct {
	calls []counted // in order of time
	total int
}

type counted struct {
	at time.Time
	n  int
}

// add counts n calls. Callers pass the times at which they looked at the clock, not quite in order; what counts is the
// latest.
func (w *window) add(n int, now time.Time) {
	w.forget(now)
	if last := len(w.calls) - 1; last >= 0 && w.calls[last].at.After(now) {
		now = w.calls[last].at
	}
	w.calls = append(w.calls, counted{at: now, n: n})
	w.total += n
}

// room is when n more calls fit among limit calls per second. More than that fit into an empty second.
func (w *window) room(n, limit int, now time.Time) time.Time {
	w.forget(now)
	at, left := now, w.total
	for _, c := range w.calls {
		if left <= max(0, limit-n) {
			break
		}
		at, left = c.at.Add(second), left-c.n
	}
	return at
}

func (w *window) forget(now time.Time) {
	old := 0
	for old < len(w.calls) && !w.calls[old].at.After(now.Add(-second)) {
		w.total -= w.calls[old].n
		old++
	}
	w.calls = w.calls[old:]
}
