package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
)

// The times of the election are controller-runtime's own, named because the fence relies on them: nobody takes the
// lease before leaseDuration is over, and the one who holds it makes no call once renewDeadline is.
const (
	leaseDuration = 15 * time.Second
	renewDeadline = 10 * time.Second
	retryPeriod   = 2 * time.Second
)

const hintLeaseLost = "this manager has not renewed its lease in time and leaves the work to the one that holds it"

// The operations, as token.Error names them.
const (
	opApply  = "Apply"
	opQuery  = "Query"
	opRevoke = "Revoke"
)

// errLeaseLost is in each write to the API server that was not sent.
var errLeaseLost = errors.New(hintLeaseLost)

// fence keeps a manager whose lease has ended from calling the service and from writing to the API server, also before
// the election notices: a process that was frozen goes on in the middle of its work, while another one leads. What it
// cannot keep back is the call or the write of each worker that was frozen between asking the fence and sending. It is
// safe for concurrent use.
type fence struct {
	elects bool

	mu      sync.Mutex
	renewed time.Time // when the last renewal that succeeded was sent; zero while the lease is not ours
}

// newFence returns a fence that holds from the first renewal on or, without an election, always.
func newFence(elects bool) *fence { return &fence{elects: elects} }

// Holds returns nil while this manager may act, and otherwise why it may not. A clock counts that shows more time passed:
// the monotonic one stands still while the machine sleeps, the other one can be set back.
func (f *fence) Holds(now time.Time) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case !f.elects:
		return nil
	case f.renewed.IsZero():
		return errors.New("the lease is not held")
	case max(now.Sub(f.renewed), now.Round(0).Sub(f.renewed.Round(0))) >= renewDeadline:
		return errors.New("the lease was not renewed in time")
	}
	return nil
}

func (f *fence) renew(sent time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.renewed = sent
}

// fencedLock tells the fence what becomes of the lease.
type fencedLock struct {
	resourcelock.Interface
	fence *fence
	now   func() time.Time
}

// Create implements resourcelock.Interface.
func (l *fencedLock) Create(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	return l.write(record, func() error { return l.Interface.Create(ctx, record) })
}

// Update implements resourcelock.Interface.
func (l *fencedLock) Update(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	return l.write(record, func() error { return l.Interface.Update(ctx, record) })
}

// write counts a renewal from before it was sent, which is the earliest that others can count from, and gives the lease
// up before its release is sent: whether that arrives is not always known.
func (l *fencedLock) write(record resourcelock.LeaderElectionRecord, send func() error) error {
	if record.HolderIdentity != l.Identity() {
		l.fence.renew(time.Time{})
		return send()
	}
	sent := l.now()
	if err := send(); err != nil {
		return err
	}
	l.fence.renew(sent)
	return nil
}

// fenced returns a dialer whose services make a call only while the fence holds.
func fenced(dial token.Dialer, fence *fence, now func() time.Time) token.Dialer {
	return func(connection token.Connection) (token.Service, error) {
		service, err := dial(connection)
		if err != nil {
			return nil, err
		}
		return &fencedService{service: service, fence: fence, now: now}, nil
	}
}

type fencedService struct {
	service token.Service
	fence   *fence
	now     func() time.Time
}

// Apply implements token.Service.
func (s *fencedService) Apply(ctx context.Context, scope token.Scope, expires time.Time) (token.Value, error) {
	if err := s.lost(opApply); err != nil {
		return token.Value{}, err
	}
	return s.service.Apply(ctx, scope, expires)
}

// Query implements token.Service.
func (s *fencedService) Query(ctx context.Context, value token.Value) (bool, error) {
	if err := s.lost(opQuery); err != nil {
		return false, err
	}
	return s.service.Query(ctx, value)
}

// Revoke implements token.Service.
func (s *fencedService) Revoke(ctx context.Context, value token.Value) error {
	if err := s.lost(opRevoke); err != nil {
		return err
	}
	return s.service.Revoke(ctx, value)
}

// lost is the fault of a call that is not made.
func (s *fencedService) lost(operation string) error {
	if err := s.fence.Holds(s.now()); err != nil {
		return &token.Error{Kind: token.KindUnavailable, Op: operation, Code: token.CodeLeaseLost, Hint: hintLeaseLost, Err: err}
	}
	return nil
}

// fencedClient returns how to make the manager's client so that it writes only while the fence holds. Preconditions alone
// do not keep a write back: one that carries a Secret's version of today can stem from a grant as it was before the
// freeze, for the two come through different watches. Leases, events and the reviews of who asks for metrics take other
// clients, so a standby has them.
func fencedClient(fence *fence, now func() time.Time) client.NewClientFunc {
	return func(config *rest.Config, options client.Options) (client.Client, error) {
		config = rest.CopyConfig(config)
		config.Wrap(func(next http.RoundTripper) http.RoundTripper {
			return &fencedTransport{next: next, fence: fence, now: now}
		})
		options.HTTPClient = nil // the manager's own, which knows of no fence
		return client.New(config, options)
	}
}

type fencedTransport struct {
	next  http.RoundTripper
	fence *fence
	now   func() time.Time
}

// RoundTrip implements http.RoundTripper.
func (t *fencedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method != http.MethodGet {
		if err := t.fence.Holds(t.now()); err != nil {
			if r.Body != nil {
				_ = r.Body.Close() // as the interface demands; nothing was read from it
			}
			return nil, fmt.Errorf("%w: %w", errLeaseLost, err)
		}
	}
	return t.next.RoundTrip(r)
}
