package plan_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/plan"
)

func TestRenewAt(t *testing.T) {
	for sentence, tc := range map[string]struct {
		life, renewBefore time.Duration
		wantFrom, wantTo  time.Duration // after the issue; from excluded where the jitter reaches it
	}{
		"a third before the end, less a tenth of jitter":  {24 * time.Hour, 8 * time.Hour, 16*time.Hour - 144*time.Minute, 16 * time.Hour},
		"a short renewBefore leaves the jitter its tenth": {10 * time.Hour, 10 * time.Second, 9*time.Hour - 10*time.Second, 10*time.Hour - 10*time.Second},
		"80 % leave half of the rest to the jitter":       {100 * time.Minute, 80 * time.Minute, 10 * time.Minute, 20 * time.Minute},
		"more than 80 % counts as 80 %":                   {100 * time.Minute, 100 * time.Minute, 10 * time.Minute, 20 * time.Minute},
		"never in the first minute":                       {2 * time.Minute, 96 * time.Second, time.Minute, time.Minute},
		"a life of a minute is renewed halfway":           {time.Minute, 10 * time.Second, 30 * time.Second, 30 * time.Second},
		"the longest life":                                {720 * time.Hour, 240 * time.Hour, 408 * time.Hour, 480 * time.Hour},
	} {
		t.Run(sentence, func(t *testing.T) {
			for i := range 200 {
				seed := fmt.Sprint("uid-", i)
				got := plan.RenewAt(now, now.Add(tc.life), tc.renewBefore, seed).Sub(now)
				if got < tc.wantFrom-time.Second || got > tc.wantTo {
					t.Fatalf("%s: got %v, want %v to %v", seed, got, tc.wantFrom, tc.wantTo)
				}
			}
		})
	}
	if got := (plan.Input{}).RenewAt(); !got.IsZero() {
		t.Errorf("without tokens: %v", got)
	}
}

func TestJitterSpreadsSeedsEvenly(t *testing.T) {
	const seeds, bins = 20_000, 10
	life, before := 720*time.Hour, 240*time.Hour
	last, width := now.Add(life-before), life/10
	var counts [bins]int
	for i := range seeds {
		early := last.Sub(plan.RenewAt(now, now.Add(life), before, fmt.Sprintf("6f1c-%08d", i)))
		counts[min(bins-1, int(int64(early)*bins/int64(width)))]++
	}
	for bin, count := range counts {
		if count < seeds/bins*9/10 || count > seeds/bins*11/10 {
			t.Errorf("bin %d holds %d of %d seeds", bin, count, seeds)
		}
	}
}

// FuzzRenewAt holds over everything the API accepts: a moment in whole seconds, well after the issue, before the end.
func FuzzRenewAt(f *testing.F) {
	f.Add(int64(120), int64(10), int64(0), "a")
	f.Add(int64(120), int64(96), int64(999_999_999), "b")
	f.Add(int64(2_592_000), int64(2_073_600), int64(1), "c")
	f.Fuzz(func(t *testing.T, validity, renewBefore, nanos int64, seed string) {
		life := time.Duration(120+abs(validity)%(720*3600-119)) * time.Second
		before := min(time.Duration(10+abs(renewBefore)%(720*3600))*time.Second, life*8/10)
		issued := now.Add(time.Duration(abs(nanos) % int64(time.Second)))
		got := plan.RenewAt(issued, issued.Add(life), before, seed)
		switch {
		case !got.Equal(plan.RenewAt(issued, issued.Add(life), before, seed)):
			t.Fatal("asked twice, answered twice")
		case !got.Equal(got.Truncate(time.Second)):
			t.Fatalf("%v is not in whole seconds", got)
		case got.Sub(issued) < time.Minute-time.Second || got.Sub(issued) < life/20-time.Second:
			t.Fatalf("life %v, renewBefore %v: renewed %v after the issue", life, before, got.Sub(issued))
		case !got.Before(issued.Add(life)):
			t.Fatalf("life %v, renewBefore %v: renewed after the end", life, before)
		}
	})
}

func abs(n int64) int64 {
	return max(n, -(n + 1)) // of two neighbours, so that it cannot overflow
}

func TestBackoff(t *testing.T) {
	var last time.Duration
	for attempts := range 20 {
		got := plan.Backoff(attempts, "uid")
		switch {
		case got < last:
			t.Errorf("attempt %d waits %v, less than %v before", attempts, got, last)
		case got < 3*time.Second || got > 10*time.Minute:
			t.Errorf("attempt %d waits %v", attempts, got)
		case got != got.Truncate(time.Second):
			t.Errorf("attempt %d waits %v, not whole seconds", attempts, got)
		}
		last = got
	}
	if last < 7*time.Minute {
		t.Errorf("the longest wait is %v", last)
	}
	different := map[time.Duration]bool{}
	for i := range 100 {
		different[plan.Backoff(20, fmt.Sprint(i))] = true
	}
	if len(different) < 50 {
		t.Errorf("100 grants that failed together come back at %d moments", len(different))
	}
}
