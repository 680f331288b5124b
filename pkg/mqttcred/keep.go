package mqttcred

import (
	"context"
	"errors"
	"time"
)

// ErrRefused is in the chain of a session's error if the broker does not take the credentials, or not any more: a refused
// CONNECT, or a notice that a token's life is over.
var ErrRefused = errors.New("the broker does not take the tokens")

// Session is one connection, from CONNECT to its end. It returns the credentials that the connection had in the end, and
// why it ended; ErrRefused or ErrReconnect may be in that error's chain.
type Session func(ctx context.Context, used Credentials) (last Credentials, why error)

// Keep has one session after the other, each with credentials that are worth it, until the context ends, and returns its
// error. It tells of waiting and of ends; a session tells the rest. The adapters for MQTT libraries are built on it.
func (s *Source) Keep(ctx context.Context, session Session, tell func(Event)) error {
	for {
		used, err := s.Await(ctx, func(why error) { tell(Event{Kind: Waiting, Err: why}) })
		if err != nil {
			return err
		}
		began := s.now()
		last, why := session(ctx, used)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		s.Ended(last, endingOf(why), s.now().Sub(began))
		tell(Event{Kind: Disconnected, Err: why})
	}
}

func endingOf(why error) Ending {
	switch {
	case errors.Is(why, ErrRefused):
		return Refused
	case errors.Is(why, ErrReconnect):
		return Replaced
	}
	return Lost
}

// noticeWithin is how long a notice may come after the end of the connection that it is about.
const noticeWithin = 200 * time.Millisecond

// Notices takes in what the broker says of a connection's tokens. It is safe for concurrent use.
type Notices struct{ said chan Notice }

// NewNotices returns an empty one; there is one for each connection.
func NewNotices() Notices { return Notices{said: make(chan Notice, 1)} }

// Take takes a message in if it is a notice, and returns it.
func (n Notices) Take(topic string, payload []byte) (Notice, bool) {
	notice, is := ParseNotice(topic, payload)
	if notice.IsOver() { // others explain no end, and a long connection gets many
		select {
		case n.said <- notice:
		default: // one is enough
		}
	}
	return notice, is
}

// Explain adds to the reason for which a connection has ended what the broker says of it. It waits for a moment, because
// the two come by different ways.
func (n Notices) Explain(why error) error {
	limit := time.NewTimer(noticeWithin) //nolint:forbidigo // the broker's time is the real one
	defer limit.Stop()
	select {
	case notice := <-n.said:
		return &refusal{notice: notice, why: why}
	case <-limit.C:
		return why
	}
}

// refusal is the end of a connection whose token's life was over.
type refusal struct {
	notice Notice
	why    error
}

// Error implements error.
func (r *refusal) Error() string { return ErrRefused.Error() + ": " + r.notice.String() }

// Unwrap returns both reasons.
func (r *refusal) Unwrap() []error { return []error{ErrRefused, r.why} }
