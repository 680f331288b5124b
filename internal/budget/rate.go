package budget

import (
	"math"
	"time"
)

const (
	// leastShare is what refusals leave of a rate at least.
	leastShare = 1.0 / 16
	// regainShare is what an operation gets back each regainTime without a refusal. The quota may be shared with others that
	// we know nothing about, so it takes minutes.
	regainShare = 1.0 / 16
	regainTime  = 10 * time.Second
	// startShare is what a rate begins with after an outage, and startTime how long it takes to be whole again.
	startShare = 1.0 / 4
	startTime  = 30 * time.Second
)

// rate is how many calls per second the service takes from us, as far as we know.
type rate struct {
	configured float64 // 0: not bounded
	// share is what refusals had left of it at the last one, since.
	share float64
	since time.Time
	// halved is when a refusal last counted.
	halved time.Time
}

func (r *rate) configure(perSecond int32) { r.configured = float64(max(1, perSecond)) }

func (r *rate) throttled(now time.Time) {
	share := r.shareAt(now)
	if r.halved.IsZero() || now.Sub(r.halved) >= second {
		share, r.halved = max(share/2, leastShare), now
	}
	r.share, r.since = share, now
}

func (r *rate) shareAt(now time.Time) float64 {
	if r.since.IsZero() {
		return 1
	}
	return min(1, r.share+regainShare*float64(max(0, now.Sub(r.since)/regainTime)))
}

// at is the rate at a time, infinite if it is not bounded.
func (r *rate) at(now time.Time, start slowStart) float64 {
	if r.configured == 0 {
		return math.Inf(1)
	}
	return r.configured * r.shareAt(now) * start.shareAt(now)
}

// slowStart keeps rates down after an outage. The zero value does nothing.
type slowStart struct{ from time.Time }

func (s slowStart) shareAt(now time.Time) float64 {
	if s.from.IsZero() {
		return 1
	}
	return min(1, startShare+(1-startShare)*max(0, now.Sub(s.from).Seconds())/startTime.Seconds())
}

// interval is the distance of two slots. It is rounded up, so that a second never holds one too many.
func interval(perSecond float64) time.Duration {
	return time.Duration(math.Ceil(float64(time.Second) / perSecond))
}

// wholeCalls is how many calls a second may hold at most: a share of a call is a call.
func wholeCalls(perSecond float64) int {
	if perSecond > math.MaxInt32 {
		return math.MaxInt32
	}
	return int(math.Ceil(perSecond))
}
