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
	life, before := 720*time.Hour, 240*time.Hour
	last := now.Add(life - before)
	spreadsEvenly(t, life/10, func(seed string) time.Duration {
		return last.Sub(plan.RenewAt(now, now.Add(life), before, seed))
	})
}

// spreadsEvenly has the same number of seeds give each tenth of the width.
func spreadsEvenly(t *testing.T, width time.Duration, of func(seed string) time.Duration) {
	t.Helper()
	const seeds, bins = 20_000, 10
	var counts [bins]int
	for i := range seeds {
		counts[min(bins-1, int(int64(of(fmt.Sprintf("6f1c-%08d", i)))*bins/int64(width)))]++
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
	f.Add(int64(50), int64(100), int64(0), "d")
	f.Fuzz(func(t *testing.T, validity, renewBefore, nanos int64, seed string) {
		life := time.Duration(120+abs(validity)%(720*3600-119)) * time.Second
		before := min(time.Duration(10+abs(renewBefore)%(720*3600))*time.Second, life*8/10)
		issued := now.Add(time.Duration(abs(nanos) % int64(time.Second)))
		in := current(missing, func(in *plan.Input) { in.Now, in.RenewBefore, in.Seed = issued, before, seed })
		in = carryOut(in, plan.Decide(in), life)
		got := in.RenewAt()
		in.Flaky = true
		early := in.RenewAt()
		rest := max(time.Minute, life/20) - time.Second // of a moment in whole seconds
		// Tokens of one type that are alive right after an issue, had all renewals come this fast.
		alive := int((life-1)/early.Sub(issued)) + 1
		switch {
		case !got.Equal(plan.RenewAt(issued, issued.Add(life), before, seed)):
			t.Fatal("asked twice, answered twice")
		case !got.Equal(got.Truncate(time.Second)) || !early.Equal(early.Truncate(time.Second)):
			t.Fatalf("%v or %v is not in whole seconds", got, early)
		case got.Sub(issued) < rest || early.Sub(issued) < rest:
			t.Fatalf("life %v, renewBefore %v: renewed %v after the issue, %v if flaky", life, before, got.Sub(issued), early.Sub(issued))
		case !got.Before(issued.Add(life)):
			t.Fatalf("life %v, renewBefore %v: renewed after the end", life, before)
		case early.After(got):
			t.Fatalf("life %v, renewBefore %v: a flaky service is asked at %v, a steady one at %v", life, before, early, got)
		case before < life*7/10 && got.Sub(issued) > rest+2*time.Second && !early.Before(got):
			t.Fatalf("life %v, renewBefore %v: a flaky service is asked no earlier", life, before)
		case 3*(alive-1) > plan.MaxRetired:
			t.Fatalf("life %v, renewBefore %v: renewals alone leave %d tokens of each type", life, before, alive)
		case !plan.IsShort(life, before) && issued.Add(life).Sub(got) < 110*time.Second:
			t.Fatalf("life %v, renewBefore %v: not short, yet renewed %v before the end", life, before, issued.Add(life).Sub(got))
		}
		for _, flaky := range []bool{false, true} {
			in.Flaky = flaky
			if d := plan.Decide(in); d.Verb != plan.Keep || !d.Next.After(issued) {
				t.Fatalf("life %v, renewBefore %v, flaky %v: right after an issue: %+v", life, before, flaky, d)
			}
		}
	})
}

func TestVerifyAt(t *testing.T) {
	if got := plan.VerifyAt(now, 0, "uid"); !got.IsZero() {
		t.Errorf("without an interval: %v", got)
	}
	if got := plan.VerifyAt(now, -time.Hour, "uid"); !got.IsZero() {
		t.Errorf("with an interval below zero: %v", got)
	}
	day := now.Truncate(24 * time.Hour)
	spreadsEvenly(t, 24*time.Hour, func(seed string) time.Duration {
		return plan.VerifyAt(day.Add(-time.Second), 24*time.Hour, seed).Sub(day)
	})
}

// FuzzVerifyAt: the moments of a seed are one interval apart, and from whenever one looks, the next one is the answer.
func FuzzVerifyAt(f *testing.F) {
	f.Add(int64(24*time.Hour)-1, int64(0), int64(time.Hour), "a")
	f.Add(int64(time.Second)-1, int64(1), int64(time.Second-1), "b")
	f.Add(int64(1500*time.Millisecond), int64(-1), int64(-time.Hour), "c")
	f.Add(int64(1), int64(1), int64(0), "d")
	f.Add(int64(0), int64(0), int64(0), "e")
	f.Fuzz(func(t *testing.T, nanos, offset, within int64, seed string) {
		interval := time.Duration(1 + abs(nanos)%int64(1440*time.Hour))
		last := now.Add(time.Duration(offset % int64(1440*time.Hour)))
		got := plan.VerifyAt(last, interval, seed)
		switch after := plan.VerifyAt(got, interval, seed); {
		case !got.After(last) || got.After(last.Add(interval)):
			t.Fatalf("interval %v: %v after %v", interval, got, last)
		case after.Sub(got) != interval:
			t.Fatalf("interval %v: after %v comes %v", interval, got, after)
		case interval%time.Second == 0 && !got.Equal(got.Truncate(time.Second)):
			t.Fatalf("interval %v: %v is not in whole seconds", interval, got)
		}
		begin := got.Add(-interval)
		if other := begin.Add(time.Duration(abs(within) % int64(interval))); !plan.VerifyAt(other, interval, seed).Equal(got) {
			t.Fatalf("interval %v: %v after %v, and %v after %v", interval, got, last, plan.VerifyAt(other, interval, seed), other)
		}
	})
}

func TestIsShort(t *testing.T) {
	for sentence, tc := range map[string]struct {
		validity, renewBefore time.Duration
		want                  bool
	}{
		"the shortest validity is short":                      {2 * time.Minute, 96 * time.Second, true},
		"a day with a third is not":                           {24 * time.Hour, 8 * time.Hour, false},
		"a renewBefore that a retry and the kubelet just fit": {24 * time.Hour, 110 * time.Second, false},
		"a second less is short":                              {24 * time.Hour, 109 * time.Second, true},
		"the longest validity does not help":                  {720 * time.Hour, 10 * time.Second, true},
		"the first minute is not for renewing":                {169 * time.Second, 134 * time.Second, true},
		"a second more than it leaves enough":                 {170 * time.Second, 134 * time.Second, false},
		"a renewBefore past the end does not help":            {137 * time.Second, time.Hour, true},
	} {
		t.Run(sentence, func(t *testing.T) {
			if got := plan.IsShort(tc.validity, tc.renewBefore); got != tc.want {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
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
