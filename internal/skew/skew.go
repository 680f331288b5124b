// Package skew estimates how far a service's clock is ahead of ours, from the time that it puts on its answers.
package skew

import (
	"slices"
	"sync"
	"time"
)

// MaxSigned is how far our clock may be off the service's: beyond it the gateway refuses what we sign
// (InvalidTimeStamp.Expired).
const MaxSigned = 15 * time.Minute

const (
	// window is how many samples the median is taken over. Of five, three decide: one wrong answer does not, and a jump
	// of a clock is followed with the third answer after it.
	window = 5
	// resolution is that of the Date header, which cuts off the fraction of the second.
	resolution = time.Second
	// maxRoundTrip is above any answer that says something about the present; a process that was frozen takes longer.
	maxRoundTrip = 10 * time.Second
	// maxOffset bounds what is believed. A clock that is further off is broken, and so are its decisions.
	maxOffset = 24 * time.Hour
	// deadBand is what counts as no offset at all: the header's resolution and the network account for that much.
	deadBand = 2 * time.Second
	// step is how far the estimate must move before what is reported does.
	step = time.Second
)

// Estimator learns from answers how far the service's clock is ahead of ours. The zero value knows nothing yet. It is
// safe for concurrent use.
//
// The median of the last samples is within half of the longest round trip and half a second of the truth. What Offset
// reports is within a second of that median; where it reports zero, the median may be up to three seconds away.
type Estimator struct {
	mu      sync.Mutex
	samples []time.Duration // the last ones, oldest first
	// anchor is the estimate that is reported, before the dead band.
	anchor time.Duration
}

// Observe takes in one answer: the time that the service put on it, rounded down to the second, and our clock before
// the request and after the answer. An answer that took more than ten seconds, or none that time could take, says
// nothing about the clock. Nor does one that is more than a day off, which is dropped rather than clamped: believing a
// broken clock by a day could end tokens unrenewed.
func (e *Estimator) Observe(served, sent, received time.Time) {
	roundTrip := received.Sub(sent)
	if roundTrip < 0 || roundTrip > maxRoundTrip {
		return
	}
	sample := served.Add(resolution / 2).Sub(sent.Add(roundTrip / 2))
	if sample.Abs() > maxOffset {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	first := len(e.samples) == 0
	if len(e.samples) == window {
		e.samples = e.samples[1:]
	}
	e.samples = append(e.samples, sample)
	if estimate := e.median(); first || (estimate-e.anchor).Abs() >= step {
		e.anchor = estimate
	}
}

// median returns the middle one of the samples. Of two in the middle it takes the one that is nearer to what is reported
// already: the other one has no majority.
func (e *Estimator) median() time.Duration {
	sorted := slices.Sorted(slices.Values(e.samples))
	low, high := sorted[(len(sorted)-1)/2], sorted[len(sorted)/2]
	if (high - e.anchor).Abs() < (low - e.anchor).Abs() {
		return high
	}
	return low
}

// Offset is how far the service's clock is ahead of ours; negative if it is behind, zero as long as nothing is known or
// the difference is too small to tell. It is never more than a day.
func (e *Estimator) Offset() time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.anchor.Abs() < deadBand {
		return 0
	}
	return e.anchor
}
