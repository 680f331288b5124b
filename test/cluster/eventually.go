package cluster

import (
	"context"
	"fmt"
	"time"
)

const pollInterval = 200 * time.Millisecond

// Eventually checks until nothing is missing any more. An error ends it at once.
func Eventually(ctx context.Context, within time.Duration, check func() (missing string, err error)) error {
	limit := time.NewTimer(within)
	defer limit.Stop()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		missing, err := check()
		if err != nil || missing == "" {
			return err
		}
		select {
		case <-tick.C:
		case <-limit.C:
			return fmt.Errorf("after %s still: %s", within, missing)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
