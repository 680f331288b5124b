package turnstile_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/mqtt-token-operator/mqtt-token-operator/pkg/mqttcred/internal/turnstile"
)

func TestNobodyEntersBeforeItOpens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate, entered := turnstile.New(), false
		go func() {
			leave, err := gate.Enter(t.Context())
			if err != nil {
				t.Error(err)
			}
			entered = true
			leave()
			leave() // once more does nothing
		}()
		synctest.Wait()
		if entered {
			t.Fatal("somebody came in while it is shut")
		}
		gate.Open()
		synctest.Wait()
		if !entered {
			t.Error("nobody came in")
		}
		if err := gate.Shut(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestShutWaitsForThoseInside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate, shut := turnstile.New(), false
		gate.Open()
		leave, err := gate.Enter(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			if err := gate.Shut(t.Context()); err != nil {
				t.Error(err)
			}
			shut = true
		}()
		synctest.Wait()
		if shut {
			t.Fatal("it did not wait")
		}
		leave()
		synctest.Wait()
		if !shut {
			t.Error("it waits for nobody")
		}
	})
}

func TestWhoeverWaitsMayGiveUp(t *testing.T) {
	gone := errors.New("gone home")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(gone)
	if _, err := turnstile.New().Enter(ctx); !errors.Is(err, gone) {
		t.Errorf("got %v", err)
	}
}
