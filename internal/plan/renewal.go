package plan

import (
	"hash/fnv"
	"time"
)

const (
	// minRest is the shortest time between an issue and the renewal that follows it, whatever the spec says.
	minRest = time.Minute
	// restShare, jitterShare and renewShare are parts of a token's life: how early at most it is renewed, how wide renewals
	// are spread, and the longest renewBefore.
	restShare   = 0.05
	jitterShare = 0.10
	renewShare  = 0.80

	firstBackoff = 5 * time.Second
	// MaxBackoff is the longest wait between two attempts.
	MaxBackoff = 10 * time.Minute
)

// RenewAt is when the held tokens are to be renewed; zero without tokens. It lies within the tokens' life, in whole
// seconds, and does not depend on when it is asked for.
func (in Input) RenewAt() time.Time {
	if len(in.Held.Tokens) == 0 {
		return time.Time{}
	}
	renewBefore := in.RenewBefore
	if in.Flaky {
		renewBefore += renewBefore / 2
	}
	return RenewAt(in.Held.Issued, in.Held.Expires(), renewBefore, in.Seed)
}

// RenewAt is expires - renewBefore - jitter, but never within the first minute or 5 % of the tokens' life. The jitter
// is a hash of the seed, at most 10 % of the life and half of what renewBefore leaves: grants made together spread out,
// and each of them always gets the same answer.
func RenewAt(issued, expires time.Time, renewBefore time.Duration, seed string) time.Time {
	life := expires.Sub(issued)
	renewBefore = min(renewBefore, share(life, renewShare))
	jitter := time.Duration(fraction(seed) * float64(min(share(life, jitterShare), (life-renewBefore)/2)))
	at := expires.Add(-renewBefore - jitter).Truncate(time.Second)
	if rest := issued.Add(max(minRest, share(life, restShare))); at.Before(rest) {
		at = rest.Truncate(time.Second)
	}
	if !at.Before(expires) { // a life too short for any of it
		at = issued.Add(life / 2).Truncate(time.Second)
	}
	return at
}

// VerifyAt is the next moment after the last one at which the service is asked about a grant's tokens: one in each
// interval, spread evenly over it by the seed, whoever asks and whenever it started.
func VerifyAt(last time.Time, interval time.Duration, seed string) time.Time {
	if interval <= 0 {
		return time.Time{}
	}
	phase := share(interval, fraction("verify/"+seed)).Truncate(time.Second)
	if at := last.Truncate(interval).Add(phase); at.After(last) {
		return at
	}
	return last.Truncate(interval).Add(phase + interval)
}

// slowestReaction is what a client with mounted files needs after a renewal that failed once: the kubelet takes up to
// 90 s, and a call that fails takes up to 15 s and is tried again after 5.
const slowestReaction = 110 * time.Second

// IsShort reports whether tokens are renewed so late that a client may not have the new ones before the old ones end.
func IsShort(validity, renewBefore time.Duration) bool {
	left := min(renewBefore, share(validity, renewShare), validity-max(minRest, share(validity, restShare)))
	return left < slowestReaction
}

// Backoff is how long to wait after so many failed attempts in a row: doubling from 5 s to 10 min, less a part that
// depends on the seed, so that grants that failed together do not come back together.
func Backoff(attempts int, seed string) time.Duration {
	wait := MaxBackoff
	if attempts < 8 {
		wait = min(MaxBackoff, firstBackoff<<max(0, attempts-1))
	}
	return (wait - time.Duration(fraction(seed)*float64(wait)/4)).Round(time.Second)
}

// Spread is a part of a duration that depends on the seed alone, evenly between nothing and all of it.
func Spread(seed string, most time.Duration) time.Duration { return share(most, fraction(seed)) }

func share(d time.Duration, part float64) time.Duration { return time.Duration(part * float64(d)) }

// fraction spreads seeds evenly over [0, 1).
func fraction(seed string) float64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(seed)) // never fails
	return float64(mix(h.Sum64())>>11) / (1 << 53)
}

// mix spreads the hash's entropy to its upper bits; FNV alone leaves those of similar seeds alike.
func mix(x uint64) uint64 {
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}
