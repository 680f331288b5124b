package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/simulator/state"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/simulator/wire"
	"github.com/mqtt-token-operator/mqtt-token-operator/test/cluster"
)

// skewLimit is how far the service's clock may be off: less than what is left of any token when it is due for renewal.
const skewLimit = 45 * time.Second

// unreadRetries is how long three attempts in vain keep a grant waiting: 5, 10 and 20 s, and a tenth of that.
const unreadRetries = 40 * time.Second

// unreadWithin is how long to wait for calls whose replies are to be lost.
const unreadWithin = 20 * time.Second

func (w *world) serviceFaults() map[kind]inject {
	return map[kind]inject{
		outage: w.broken(5*time.Second, 30*time.Second, func(fault) wire.Faults {
			return wire.Faults{Calls: []wire.Fault{{Kind: wire.FaultOutage}}}
		}),
		errorStorm: w.broken(5*time.Second, 20*time.Second, func(f fault) wire.Faults {
			kinds := []wire.FaultKind{wire.FaultError, wire.FaultGarbage, wire.FaultOddError}
			return wire.Faults{Calls: []wire.Fault{{Kind: kinds[f.among(2, len(kinds))], Rate: 0.7}}}
		}),
		throttling: w.broken(5*time.Second, 15*time.Second, func(f fault) wire.Faults {
			codes := []string{"ApplyTokenOverFlow", "Throttling.User"}
			return wire.Faults{Calls: []wire.Fault{{
				Kind: wire.FaultError, Status: http.StatusBadRequest, Code: codes[f.among(2, len(codes))], Rate: 0.8,
			}}}
		}),
		slowService: w.broken(5*time.Second, 15*time.Second, func(f fault) wire.Faults {
			return wire.Faults{Latency: wire.Duration(f.between(2, 500*time.Millisecond, 3*time.Second))}
		}),
		dropReply:       w.unread(wire.FaultDropReply),
		resetReply:      w.unread(wire.FaultReset),
		loseRevokeReply: w.loseRevokeReply,
		clockSkew:       w.skew,
	}
}

// broken has the service misbehave for a while.
func (w *world) broken(least, most time.Duration, how func(fault) wire.Faults) inject {
	return func(_ context.Context, f fault) (string, error) {
		w.trouble("service", true)
		defer w.trouble("service", false)
		lasts, faults := f.between(0, least, most), how(f)
		if err := w.cloud.SetFaults(faults); err != nil {
			return "", err
		}
		wait(lasts)
		return fmt.Sprintf("%s of %+v", lasts, faults), w.cloud.SetFaults(wire.Faults{})
	}
}

// unread keeps the manager from reading the replies that hold tokens.
func (w *world) unread(how wire.FaultKind) inject {
	return func(ctx context.Context, f fault) (string, error) {
		times := 1 + f.among(0, 3)
		w.mu.Lock()
		w.book.unread += times
		w.mu.Unlock()
		err := w.cloud.SetFaults(wire.Faults{Calls: []wire.Fault{{Kind: how, Operation: state.Apply, Times: times}}})
		if err != nil {
			return "", err
		}
		if _, err := w.reissueWithin(ctx, f, unreadRetries); err != nil {
			return "", errors.Join(err, w.cloud.SetFaults(wire.Faults{}))
		}
		left := w.awaitUnread(ctx, times)
		w.mu.Lock()
		w.book.unread -= left
		w.mu.Unlock()
		return fmt.Sprintf("%d replies", times-left), w.cloud.SetFaults(wire.Faults{})
	}
}

// loseRevokeReply has tokens revoked, and keeps the manager from reading that they are.
func (w *world) loseRevokeReply(ctx context.Context, f fault) (string, error) {
	const times = 1 // a second attempt at the token comes after its backoff
	kinds := []wire.FaultKind{wire.FaultDropReply, wire.FaultReset}
	w.unheard(times)
	err := w.cloud.SetFaults(wire.Faults{Calls: []wire.Fault{{Kind: kinds[f.among(1, len(kinds))], Operation: state.Revoke, Times: times}}})
	if err == nil {
		_, err = w.reissue(ctx, f)
	}
	left := times
	if err == nil {
		left = w.awaitUnread(ctx, times)
	}
	err = errors.Join(err, w.cloud.SetFaults(wire.Faults{}))
	w.unheard(-left)
	return fmt.Sprintf("%d replies", times-left), err
}

// unheard notes how many replies about revocations get lost.
func (w *world) unheard(times int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.repeats.lose(times)
}

// skew puts the service's clock off, and back.
func (w *world) skew(_ context.Context, f fault) (string, error) {
	by := f.between(0, 5*time.Second, skewLimit)
	if f.among(1, 2) == 0 {
		by = -by
	}
	if err := w.cloud.SetFaults(wire.Faults{ClockSkew: wire.Duration(by)}); err != nil {
		return "", err
	}
	lasts := f.between(2, 5*time.Second, 25*time.Second)
	wait(lasts)
	return fmt.Sprintf("%s for %s", by, lasts), w.cloud.SetFaults(wire.Faults{})
}

// awaitUnread waits until replies were lost, and returns how many of them were not.
func (w *world) awaitUnread(ctx context.Context, left int) int {
	_ = cluster.Eventually(ctx, unreadWithin, func() (string, error) { //nolint:errcheck // what is left tells
		left = 0
		for _, fault := range w.cloud.Faults().Calls {
			left += fault.Times
		}
		if left == 0 {
			return "", nil
		}
		return "replies are still to be lost", nil
	})
	return left
}
