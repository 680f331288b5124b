// Package tokentest proves that an implementation of token.Service keeps what the interface's comments promise.
package tokentest

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/topic"
)

const (
	// validity is what the suite applies for; no service refuses it for being short.
	validity = 2 * time.Minute
	// pastExpiry moves the clock past it, and not so far that a signature's time would be refused.
	pastExpiry = 3 * time.Minute
	// callers is how many goroutines use one service at once.
	callers = 8
)

// Subject is a service under test.
type Subject struct {
	// Service is open, works, and may use every topic below "conformance".
	Service token.Service
	// Now is the service's clock.
	Now func() time.Time
	// Advance moves that clock; nil where it cannot be moved, and then expiry is not proven.
	Advance func(time.Duration)
	// Unknown is a value in the form of a token that the service has never issued.
	Unknown token.Value
	// Dates is what the connection's OnDate was set to note on; nil where the service tells no time.
	Dates *Dates
}

// Date is what one answer told of the service's clock and ours.
type Date struct{ Served, Sent, Received time.Time }

// Dates notes what a service tells of its clock. The zero value is empty; it is safe for concurrent use.
type Dates struct {
	mu    sync.Mutex
	notes []Date
}

// Note is for token.Connection's OnDate.
func (d *Dates) Note(served, sent, received time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.notes = append(d.notes, Date{Served: served, Sent: sent, Received: received})
}

// Take returns what was noted since the last Take.
func (d *Dates) Take() []Date {
	d.mu.Lock()
	defer d.mu.Unlock()
	taken := d.notes
	d.notes = nil
	return taken
}

// Run proves each promise on a subject of its own.
func Run(t *testing.T, open func(t *testing.T) Subject) {
	t.Helper()
	for sentence, prove := range map[string]func(*testing.T, Subject){
		"each apply makes a new token":                            eachApplyMakesANewToken,
		"scopes of every type and size are taken":                 scopesOfEveryTypeAreTaken,
		"a token is valid until it ends":                          aTokenIsValidUntilItEnds,
		"a value that was never issued is not valid, not a fault": neverIssuedIsNotValid,
		"a revoked token is not valid and the others still are":   revokeEndsOneToken,
		"revoke is idempotent":                                    revokeIsIdempotent,
		"what was never issued counts as revoked":                 neverIssuedCountsAsRevoked,
		"an expired token counts as revoked":                      expiredCountsAsRevoked,
		"a context that has ended ends each call":                 anEndedContextEndsEachCall,
		"a call with an ended context has no effect":              anEndedContextHasNoEffect,
		"many callers share one service":                          manyCallersShareOneService,
		"each answer tells the service's time":                    eachAnswerTellsTheTime,
		"a call with an ended context tells no time":              anEndedContextTellsNoTime,
	} {
		t.Run(sentence, func(t *testing.T) { prove(t, open(t)) })
	}
}

func eachApplyMakesANewToken(t *testing.T, s Subject) {
	if first, second := apply(t, s), apply(t, s); first == second {
		t.Error("the same scope and expiry yielded the same token twice")
	}
}

func scopesOfEveryTypeAreTaken(t *testing.T, s Subject) {
	var most []topic.Filter
	for i := range token.MaxTopics {
		most = append(most, topic.MustParse("conformance/"+strconv.Itoa(i)+"/+/#"))
	}
	for _, kind := range []token.Type{token.Publish, token.Subscribe, token.PublishSubscribe} {
		scope, err := token.NewScope(kind, most...)
		if err != nil {
			t.Fatal(err)
		}
		value, err := s.Service.Apply(t.Context(), scope, s.Now().Add(validity))
		if err != nil || value.IsZero() {
			t.Errorf("%s on %d topics: zero value %v, error %v", kind, len(most), value.IsZero(), err)
		}
	}
}

func aTokenIsValidUntilItEnds(t *testing.T, s Subject) {
	value := apply(t, s)
	wantValid(t, s, value, true)
	if s.Advance == nil {
		t.Skip("the clock cannot be moved")
	}
	s.Advance(pastExpiry)
	wantValid(t, s, value, false)
}

func neverIssuedIsNotValid(t *testing.T, s Subject) {
	wantValid(t, s, s.Unknown, false)
	wantValid(t, s, token.Value{}, false)
}

func revokeEndsOneToken(t *testing.T, s Subject) {
	ended, other := apply(t, s), apply(t, s)
	revoke(t, s, ended)
	wantValid(t, s, ended, false)
	wantValid(t, s, other, true)
}

func revokeIsIdempotent(t *testing.T, s Subject) {
	value := apply(t, s)
	revoke(t, s, value)
	revoke(t, s, value)
	wantValid(t, s, value, false)
}

func neverIssuedCountsAsRevoked(t *testing.T, s Subject) {
	revoke(t, s, s.Unknown)
	revoke(t, s, token.Value{})
}

func expiredCountsAsRevoked(t *testing.T, s Subject) {
	if s.Advance == nil {
		t.Skip("the clock cannot be moved")
	}
	value := apply(t, s)
	s.Advance(pastExpiry)
	revoke(t, s, value)
}

func anEndedContextEndsEachCall(t *testing.T, s Subject) {
	value := apply(t, s)
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	late, cancelLate := context.WithTimeout(t.Context(), -time.Second)
	defer cancelLate()
	for _, tc := range []struct {
		ctx  context.Context //nolint:containedctx // a row of a table
		want error
	}{{canceled, context.Canceled}, {late, context.DeadlineExceeded}} {
		for name, err := range callAll(tc.ctx, s, value) {
			if !errors.Is(err, tc.want) {
				t.Errorf("%s with a context that ended by %q returned %v", name, tc.want, err)
			}
			wantOwnError(t, name, err)
		}
	}
}

func anEndedContextHasNoEffect(t *testing.T, s Subject) {
	value := apply(t, s)
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Service.Revoke(canceled, value); err == nil {
		t.Error("revoked with a context that had ended")
	}
	wantValid(t, s, value, true)
}

// callAll makes each call once; a call on no token must heed the context too.
func callAll(ctx context.Context, s Subject, value token.Value) map[string]error {
	_, applyErr := s.Service.Apply(ctx, scope(), s.Now().Add(validity))
	_, queryErr := s.Service.Query(ctx, value)
	_, queryNoneErr := s.Service.Query(ctx, token.Value{})
	return map[string]error{
		"Apply":                   applyErr,
		"Query":                   queryErr,
		"Query of the zero value": queryNoneErr,
		"Revoke":                  s.Service.Revoke(ctx, value),
	}
}

func manyCallersShareOneService(t *testing.T, s Subject) {
	values := make([]token.Value, callers)
	var group sync.WaitGroup
	for i := range callers {
		group.Go(func() {
			value, err := s.Service.Apply(t.Context(), scope(), s.Now().Add(validity))
			if err != nil {
				t.Errorf("Apply: %v", err)
				return
			}
			values[i] = value
			wantValid(t, s, value, true)
		})
	}
	group.Wait()
	seen := map[token.Value]bool{}
	for _, value := range values {
		if seen[value] {
			t.Error("two callers got one token")
		}
		seen[value] = true
	}
	revoke(t, s, values[0])
	wantValid(t, s, values[1], true)
}

func eachAnswerTellsTheTime(t *testing.T, s Subject) {
	if s.Dates == nil {
		t.Skip("the service tells no time")
	}
	value := apply(t, s)
	wantTime(t, s, "Apply", func() { apply(t, s) })
	wantTime(t, s, "Query", func() { wantValid(t, s, value, true) })
	wantTime(t, s, "Revoke", func() { revoke(t, s, value) })
	if s.Advance != nil {
		s.Advance(pastExpiry)
		wantTime(t, s, "Query after the clock was moved", func() { wantValid(t, s, value, false) })
	}
}

// wantTime checks that a call tells the service's time in whole seconds, and our own around it.
func wantTime(t *testing.T, s Subject, name string, call func()) {
	t.Helper()
	s.Dates.Take()
	earliest := s.Now().Truncate(time.Second)
	call()
	latest := s.Now()
	dates := s.Dates.Take()
	if len(dates) != 1 {
		t.Errorf("%s told the time %d times", name, len(dates))
	}
	for _, d := range dates {
		if d.Served.Before(earliest) || d.Served.After(latest) || d.Served.Nanosecond() != 0 || d.Received.Before(d.Sent) {
			t.Errorf("%s told %+v, want a whole second from %v to %v", name, d, earliest, latest)
		}
	}
}

func anEndedContextTellsNoTime(t *testing.T, s Subject) {
	if s.Dates == nil {
		t.Skip("the service tells no time")
	}
	value := apply(t, s)
	s.Dates.Take()
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	callAll(canceled, s, value)
	if dates := s.Dates.Take(); len(dates) != 0 {
		t.Errorf("told %+v", dates)
	}
}

func scope() token.Scope {
	return token.Scope{Type: token.Publish, Topics: []topic.Filter{topic.MustParse("conformance/a"), topic.MustParse("conformance/b/#")}}
}

func apply(t *testing.T, s Subject) token.Value {
	t.Helper()
	value, err := s.Service.Apply(t.Context(), scope(), s.Now().Add(validity))
	if err != nil {
		t.Fatalf("Apply: %v", err)
	}
	if value.IsZero() {
		t.Fatal("Apply returned neither a token nor an error")
	}
	return value
}

func revoke(t *testing.T, s Subject, value token.Value) {
	t.Helper()
	if err := s.Service.Revoke(t.Context(), value); err != nil {
		t.Errorf("Revoke: %v", err)
	}
}

func wantValid(t *testing.T, s Subject, value token.Value, want bool) {
	t.Helper()
	if got, err := s.Service.Query(t.Context(), value); got != want || err != nil {
		t.Errorf("Query = %v, %v, want %v", got, err, want)
	}
}

// wantOwnError checks that the outermost error is the contract's own, so that no text of another is printed around it.
func wantOwnError(t *testing.T, name string, err error) {
	t.Helper()
	own, ok := errors.AsType[*token.Error](err)
	if !ok || error(own) != err { //nolint:errorlint // the identity of the outermost error is the point
		t.Errorf("%s returned a %T, not a *token.Error", name, err)
		return
	}
	if own.Op == "" || own.Code == "" {
		t.Errorf("%s returned an error without operation or code: %v", name, own)
	}
}
