package mqttcred

import "time"

const (
	// firstWait is how long a client stays away after a failure, longestWait at most; each failure in a row doubles it, and
	// chance adds to it.
	firstWait   = time.Second
	longestWait = time.Minute
	// firstWaitDead and longestWaitDead are the same for credentials that the broker does not take any more: others will
	// come. That it does not take them may be its own mistake, so they are tried again in the end.
	firstWaitDead   = 30 * time.Second
	longestWaitDead = 10 * time.Minute
	// stable is how long a connection must last to count as none that failed.
	stable = 30 * time.Second
)

// Ending says why a connection ended or never came to be.
type Ending int

const (
	// Lost is any reason that has nothing to do with the credentials.
	Lost Ending = iota
	// Refused says that the broker does not take the credentials, or not any more: a refused CONNECT, or a notice that a
	// token has expired or was revoked.
	Refused
	// Replaced says that the client ended it, to connect with newer credentials.
	Replaced
)

// gate says when a client may connect. It is pure: it is told the time.
type gate struct {
	used  Credentials
	fails int
	opens time.Time
}

// opensAt is when credentials may be tried. What was not tried yet may be tried at once.
func (g *gate) opensAt(c Credentials) time.Time {
	if !c.isSame(g.used) {
		return time.Time{}
	}
	return g.opens
}

// ended notes the end of a connection that lasted so long; zero: it never came to be. Luck, at least 0 and below 1, makes the
// wait longer, by half of it at most: clients that were cut off together must not come back together.
func (g *gate) ended(used Credentials, why Ending, lasted time.Duration, now time.Time, luck float64) {
	if !used.isSame(g.used) || lasted >= stable {
		g.fails = 0
	}
	g.used = used
	first, longest := firstWait, longestWait
	switch why {
	case Refused:
		first, longest = firstWaitDead, longestWaitDead
	case Replaced:
		g.fails, g.opens = 0, now
		return
	case Lost:
	}
	wait := min(first<<min(g.fails, 16), longest)
	g.opens = now.Add(wait + time.Duration(luck*float64(wait)/2))
	g.fails++
}
