package main

import (
	"maps"
	"slices"
	"time"
)

// repeats judges how often each token was revoked. Once is right. A leader that ends, or hangs, between the call and what
// it writes of it leaves the token on record, and the next one revokes it again; so does one that never heard the reply.
// It is pure: it is told the time.
type repeats struct {
	// calls is how often a token was revoked when that was noticed last, latest when it had last become more.
	calls  map[string]int
	latest map[string]time.Time
	// interruptions are the moments at which a leader may have been kept from writing down what it had done.
	interruptions []time.Time
	// unheard is how many replies about revocations never reached the manager and explain nothing yet.
	unheard int
	// lost is how many there were in all.
	lost     int
	problems []string
}

func newRepeats() *repeats { return &repeats{calls: map[string]int{}, latest: map[string]time.Time{}} }

// notice notes how often each token was revoked by now. Each call beyond the first needs a reason of its own: an
// interruption since the one before it, or a reply that nobody heard.
func (r *repeats) notice(now time.Time, revocations map[string]int) {
	for _, id := range slices.Sorted(maps.Keys(revocations)) {
		more := revocations[id] - r.calls[id]
		if more <= 0 {
			continue
		}
		explained := 1
		if since := r.latest[id]; !since.IsZero() {
			explained = r.since(since.Add(-noticeGrace))
		}
		if needless := more - explained; needless > 0 {
			if r.unheard -= needless; r.unheard < 0 {
				r.unheard = 0
				r.problems = append(r.problems, id)
			}
		}
		r.calls[id], r.latest[id] = revocations[id], now
	}
}

// interrupted notes that a leader ended, stopped or went on.
func (r *repeats) interrupted(at time.Time) { r.interruptions = append(r.interruptions, at) }

// lose notes that so many replies get lost; negative: that they did not.
func (r *repeats) lose(replies int) {
	r.unheard += replies
	r.lost += replies
}

// judge returns the tokens that were revoked more often than anything explains; each time is told once.
func (r *repeats) judge() []string {
	problems := r.problems
	r.problems = nil
	return problems
}

// since counts the interruptions from a moment on.
func (r *repeats) since(moment time.Time) int {
	count := 0
	for _, at := range r.interruptions {
		if !at.Before(moment) {
			count++
		}
	}
	return count
}

// again counts the tokens that were revoked more than once.
func again(revocations map[string]int) int {
	count := 0
	for _, times := range revocations {
		if times > 1 {
			count++
		}
	}
	return count
}
