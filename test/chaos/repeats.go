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
	// first is when a token's first revocation was noticed.
	first map[string]time.Time
	// interruptions are the moments at which a leader may have been kept from writing down what it had done.
	interruptions []time.Time
	// unheard is how many replies about revocations never reached the manager.
	unheard int
	told    map[string]bool
}

func newRepeats() *repeats { return &repeats{first: map[string]time.Time{}, told: map[string]bool{}} }

// notice notes how often each token was revoked by now.
func (r *repeats) notice(now time.Time, revocations map[string]int) {
	for id := range revocations {
		if r.first[id].IsZero() {
			r.first[id] = now
		}
	}
}

// interrupted notes that a leader ended, stopped or went on.
func (r *repeats) interrupted(at time.Time) { r.interruptions = append(r.interruptions, at) }

// judge returns the tokens that were revoked more often than anything explains; each is told once.
func (r *repeats) judge(revocations map[string]int) []string {
	var problems []string
	unheard := r.unheard
	for _, id := range slices.Sorted(maps.Keys(revocations)) {
		needless := revocations[id] - 1 - r.since(r.first[id].Add(-noticeGrace))
		if needless <= 0 || r.told[id] {
			continue
		}
		if unheard -= needless; unheard < 0 {
			r.told[id] = true
			problems = append(problems, id)
		}
	}
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
