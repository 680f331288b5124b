// Package turnstile lets many pass while it is open, and tells when all of them are through.
package turnstile

import (
	"context"
	"sync"
)

// Turnstile is shut until it is opened. It is safe for concurrent use.
type Turnstile struct {
	mu      sync.Mutex
	open    bool
	inside  int
	changed chan struct{}
}

// New returns a turnstile that is shut.
func New() *Turnstile { return &Turnstile{changed: make(chan struct{})} }

// Enter waits until the turnstile is open. Whoever has entered must leave.
func (t *Turnstile) Enter(ctx context.Context) (leave func(), err error) {
	err = t.await(ctx, func() bool {
		if t.open {
			t.inside++
		}
		return t.open
	})
	return sync.OnceFunc(func() { t.change(func() { t.inside-- }) }), err
}

// Open lets everybody in.
func (t *Turnstile) Open() { t.change(func() { t.open = true }) }

// Shut lets nobody in any more, and waits until everybody has left.
func (t *Turnstile) Shut(ctx context.Context) error {
	t.change(func() { t.open = false })
	return t.await(ctx, func() bool { return t.inside == 0 })
}

func (t *Turnstile) change(how func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	how()
	close(t.changed)
	t.changed = make(chan struct{})
}

// await waits until something holds, which is looked at while nothing changes.
func (t *Turnstile) await(ctx context.Context, holds func() bool) error {
	for {
		t.mu.Lock()
		done, changed := holds(), t.changed
		t.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
