// Package tokenfake is a token service in memory for tests: it fails when told to, records its calls and knows what it
// has issued. It passes tokentest.Run.
package tokenfake

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
)

// MaxValidity is how long a token lives at most: as the real service does, the fake cuts longer ones without a word.
const MaxValidity = 30 * 24 * time.Hour

// Operation names a call that can fail and is recorded.
type Operation string

// The operations. They are the words that token.Error.Op uses.
const (
	Dial   Operation = "Dial"
	Apply  Operation = "Apply"
	Query  Operation = "Query"
	Revoke Operation = "Revoke"
)

// Call is one recorded call, also of one that failed. Fields that the operation does not have are zero.
type Call struct {
	Operation  Operation
	Connection token.Connection
	Scope      token.Scope
	Expires    time.Time
	Value      token.Value
}

// Token is what the fake knows about a token that it has issued.
type Token struct {
	Value   token.Value
	Scope   token.Scope
	Expires time.Time
	Revoked bool
}

// Fake is a token service. It is safe for concurrent use.
type Fake struct {
	now func() time.Time

	mu     sync.Mutex
	skew   time.Duration
	script map[Operation][]*token.Error
	calls  []Call
	issued []Token
}

var _ token.Service = (*Fake)(nil)

// New returns a fake whose tokens expire by the given clock.
func New(now func() time.Time) *Fake {
	return &Fake{now: now, script: map[Operation][]*token.Error{}}
}

// Now is the service's own clock: the one that New was given, and the skew.
func (f *Fake) Now() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.serviceNow()
}

// SetSkew puts the service's clock ahead of the one that New was given; a negative skew puts it behind.
func (f *Fake) SetSkew(ahead time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.skew = ahead
}

// serviceNow is Now for a caller that holds the lock.
func (f *Fake) serviceNow() time.Time { return f.now().Add(f.skew) }

// FailNext makes the next calls of the operation fail, one error each; nil lets a call through. A failed Apply issues
// nothing and a failed Revoke revokes nothing.
func (f *Fake) FailNext(operation Operation, faults ...*token.Error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.script[operation] = append(f.script[operation], faults...)
}

// ClearScript forgets the faults that are still to come.
func (f *Fake) ClearScript() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.script)
}

// Calls returns the calls so far, in order; of the named operations only, if any are named.
func (f *Fake) Calls(of ...Operation) []Call {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(f.calls), func(c Call) bool {
		return len(of) > 0 && !slices.Contains(of, c.Operation)
	})
}

// Issued returns every token issued so far, in order.
func (f *Fake) Issued() []Token {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.issued)
}

// Live returns the tokens that are valid now, in the order of their issue.
func (f *Fake) Live() []Token {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(f.issued), func(t Token) bool { return !f.valid(t) })
}

// RevokeBehindOurBack ends a token as somebody else would, without a call.
func (f *Fake) RevokeBehindOurBack(value token.Value) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.revoke(value)
}

// Dialer returns a dialer of which every service is this fake. A service whose connection has an OnDate tells it the
// time of every call, of one that fails too, unless the context had ended: then there is no answer.
func (f *Fake) Dialer() token.Dialer {
	return func(connection token.Connection) (token.Service, error) {
		f.mu.Lock()
		defer f.mu.Unlock()
		if err := f.begin(context.Background(), Call{Operation: Dial, Connection: connection}); err != nil {
			return nil, err
		}
		if connection.OnDate != nil {
			return dated{Fake: f, onDate: connection.OnDate}, nil
		}
		return f, nil
	}
}

// dated is a fake that tells the time of each call.
type dated struct {
	*Fake
	onDate func(served, sent, received time.Time)
}

// Apply implements token.Service.
func (d dated) Apply(ctx context.Context, scope token.Scope, expires time.Time) (token.Value, error) {
	defer d.tell(ctx)
	return d.Fake.Apply(ctx, scope, expires)
}

// Query implements token.Service.
func (d dated) Query(ctx context.Context, value token.Value) (bool, error) {
	defer d.tell(ctx)
	return d.Fake.Query(ctx, value)
}

// Revoke implements token.Service.
func (d dated) Revoke(ctx context.Context, value token.Value) error {
	defer d.tell(ctx)
	return d.Fake.Revoke(ctx, value)
}

// tell rounds the service's time down to the second, as the header of a real answer does. It runs without the fake's
// lock, so that whoever listens may use the fake.
func (d dated) tell(ctx context.Context) {
	if ctx.Err() == nil {
		d.onDate(d.Now().Truncate(time.Second), d.now(), d.now())
	}
}

// Apply implements token.Service.
func (f *Fake) Apply(ctx context.Context, scope token.Scope, expires time.Time) (token.Value, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.begin(ctx, Call{Operation: Apply, Scope: scope, Expires: expires}); err != nil {
		return token.Value{}, err
	}
	if latest := f.serviceNow().Add(MaxValidity); expires.After(latest) {
		expires = latest
	}
	value := token.NewValue(fmt.Sprintf("fake-token-%d", len(f.issued)+1))
	f.issued = append(f.issued, Token{Value: value, Scope: scope, Expires: expires.Truncate(time.Millisecond)})
	return value, nil
}

// Query implements token.Service.
func (f *Fake) Query(ctx context.Context, value token.Value) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.begin(ctx, Call{Operation: Query, Value: value}); err != nil {
		return false, err
	}
	return slices.ContainsFunc(f.issued, func(t Token) bool { return t.Value == value && f.valid(t) }), nil
}

// Revoke implements token.Service.
func (f *Fake) Revoke(ctx context.Context, value token.Value) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.begin(ctx, Call{Operation: Revoke, Value: value}); err != nil {
		return err
	}
	f.revoke(value)
	return nil
}

// begin records the call and tells whether it fails. The caller holds the lock.
func (f *Fake) begin(ctx context.Context, c Call) error {
	f.calls = append(f.calls, c)
	if err := ctx.Err(); err != nil {
		code := "Canceled"
		if errors.Is(err, context.DeadlineExceeded) {
			code = "Timeout"
		}
		return &token.Error{Kind: token.KindUnavailable, Op: string(c.Operation), Code: code, Err: err}
	}
	script := f.script[c.Operation]
	if len(script) == 0 {
		return nil
	}
	f.script[c.Operation] = script[1:]
	if script[0] == nil {
		return nil // not script[0] itself: a nil pointer in an error is no nil error
	}
	return script[0]
}

func (f *Fake) valid(t Token) bool { return !t.Revoked && f.serviceNow().Before(t.Expires) }

func (f *Fake) revoke(value token.Value) {
	for i := range f.issued {
		if f.issued[i].Value == value {
			f.issued[i].Revoked = true
		}
	}
}
