package aliyun

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
)

const (
	// sessionLife is what we ask the security token service for: its default, and the most that a role allows unless its
	// owner says otherwise. The SDK does not tell when a key ends, so we go by this.
	sessionLife = time.Hour
	// refreshBefore leaves time to try again, many times, before a key ends.
	refreshBefore = 15 * time.Minute
	// endMargin is for calls on their way and for clocks that run apart.
	endMargin = time.Minute
	// unknownRefresh and unknownLife are for keys of which nobody says when they end: the machine's and the environment's.
	// The metadata service renews a machine's key in good time; asking it costs next to nothing.
	unknownRefresh = 5 * time.Minute
	unknownLife    = 15 * time.Minute
	// retryPause is how long a refresh that failed is not repeated, however many calls want a key.
	retryPause = 10 * time.Second
)

// keys is what signs a call.
type keys struct {
	id                    string
	secret, securityToken token.Value
}

// lifetime says when keys are to be refreshed and when they end, counted from when they were asked for.
type lifetime struct{ refresh, end time.Duration }

// source holds the current keys of an identity. It is safe for concurrent use and runs one refresh at a time; the
// SDK's providers are neither locked nor bound to a context, so each refresh makes new ones, away from the callers.
type source struct {
	fetch func() (keys, lifetime, *token.Error)
	now   func() time.Time

	mu                       sync.Mutex
	held                     keys
	asked, refreshAt, endsAt time.Time
	running                  *refresh
	fault                    *token.Error // of the last refresh, if it failed
	retryAt                  time.Time
}

// refresh is one attempt; its results are there once it is done.
type refresh struct {
	done  chan struct{}
	keys  keys
	fault *token.Error
}

func newSource(fetch func() (keys, lifetime, *token.Error), now func() time.Time) *source {
	return &source{fetch: fetch, now: now}
}

// current returns keys that are good now. While it holds some, a refresh that is due or fails keeps nobody waiting. The
// error is the context's, or the *token.Error of a refresh.
func (s *source) current(ctx context.Context) (keys, error) {
	held, attempt, fault := s.look()
	switch {
	case attempt != nil:
	case fault != nil:
		return keys{}, fault
	default:
		return held, nil
	}
	select {
	case <-ctx.Done():
		return keys{}, ctx.Err()
	case <-attempt.done:
	}
	if attempt.fault != nil {
		return keys{}, attempt.fault
	}
	return attempt.keys, nil
}

// look returns good keys, or else an attempt to wait for, or else the fault of one that was made a moment ago.
func (s *source) look() (keys, *refresh, *token.Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	if s.running == nil && !now.Before(s.refreshAt) && !now.Before(s.retryAt) {
		s.running = &refresh{done: make(chan struct{})}
		go s.run(s.running, now)
	}
	switch {
	case now.Before(s.endsAt):
		return s.held, nil, nil
	case s.running != nil:
		return keys{}, s.running, nil
	default:
		return keys{}, nil, s.fault
	}
}

func (s *source) run(attempt *refresh, asked time.Time) {
	fetched, life, fault := s.fetch()
	s.mu.Lock()
	defer s.mu.Unlock()
	defer close(attempt.done)
	attempt.keys, attempt.fault = fetched, fault
	s.running, s.fault = nil, fault
	if fault != nil {
		s.retryAt = s.now().Add(retryPause)
		return
	}
	s.held, s.asked, s.refreshAt, s.endsAt, s.retryAt = fetched, asked, asked.Add(life.refresh), asked.Add(life.end), time.Time{}
}

// reject drops keys that the service has refused, unless they are so new that others would be no better.
func (s *source) reject(refused keys) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if refused == s.held && s.now().Sub(s.asked) >= retryPause {
		s.held, s.refreshAt, s.endsAt = keys{}, time.Time{}, time.Time{}
	}
}

// keys returns what signs the next call.
func (s *service) keys(caller, bounded context.Context, c *call) (keys, error) {
	if s.source == nil {
		return keys{id: s.connection.AccessKeyID, secret: s.connection.AccessKeySecret, securityToken: s.connection.SecurityToken}, nil
	}
	current, err := s.source.current(bounded)
	if fault, ok := errors.AsType[*token.Error](err); ok {
		renamed := *fault // it is shared by everyone who waits
		renamed.Op = c.operation
		return keys{}, &renamed
	}
	if err != nil {
		return keys{}, c.transportFault(caller, bounded, err, false)
	}
	c.secrets = append(c.secrets, current.secret, current.securityToken)
	return current, nil
}

// learn drops keys that a refusal says to be good no more.
func (s *service) learn(used keys, err error) {
	if s.source == nil || err == nil {
		return
	}
	code := token.AsError(err).Code
	if fits("InvalidSecurityToken*", code) || fits("InvalidAccessKeyId*", code) {
		s.source.reject(used)
	}
}
