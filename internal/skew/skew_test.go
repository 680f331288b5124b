package skew_test

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/skew"
)

func start() time.Time { return time.Date(2031, 2, 28, 23, 59, 58, 123_456_789, time.UTC) }

// exchange is one call: the service's clock is so far ahead while it answers, and the ways there and back take so long.
type exchange struct{ ahead, there, back time.Duration }

// observe lets the estimator see an exchange that begins at our time, and returns when it ends.
func observe(e *skew.Estimator, at time.Time, x exchange) time.Time {
	answered, received := at.Add(x.there), at.Add(x.there+x.back)
	e.Observe(answered.Add(x.ahead).Truncate(time.Second), at, received)
	return received
}

func observeAll(e *skew.Estimator, exchanges ...exchange) {
	at := start()
	for _, x := range exchanges {
		at = observe(e, at, x).Add(time.Minute)
	}
}

// quick is an answer that takes no time: what it says is at most half a second off, because of the header's whole seconds.
func quick(ahead time.Duration) exchange { return exchange{ahead: ahead} }

func times(n int, x exchange) []exchange {
	list := make([]exchange, n)
	for i := range list {
		list[i] = x
	}
	return list
}

func join(lists ...[]exchange) []exchange {
	var all []exchange
	for _, list := range lists {
		all = append(all, list...)
	}
	return all
}

func TestOffset(t *testing.T) {
	const ahead = 10 * time.Minute
	for sentence, tc := range map[string]struct {
		exchanges []exchange
		want      time.Duration // in whole seconds
		wantKnown bool
	}{
		"nothing is known at first":                      {},
		"one answer is enough":                           {times(1, quick(ahead)), ahead, true},
		"a service that is behind":                       {times(1, quick(-ahead)), -ahead, true},
		"clocks that agree":                              {times(5, quick(0)), 0, true},
		"less than two seconds ahead is nothing":         {times(5, quick(1200*time.Millisecond)), 0, true},
		"less than two seconds behind is nothing":        {times(5, quick(-1200*time.Millisecond)), 0, true},
		"three seconds are something":                    {times(5, quick(3*time.Second)), 3 * time.Second, true},
		"one crazy answer in the middle":                 {join(times(3, quick(ahead)), times(1, quick(-5*time.Hour)), times(1, quick(ahead))), ahead, true},
		"one crazy answer at the end":                    {join(times(5, quick(ahead)), times(1, quick(5*time.Hour))), ahead, true},
		"a crazy second answer":                          {[]exchange{quick(ahead), quick(5 * time.Hour)}, ahead, true},
		"a crazy second answer the other way":            {[]exchange{quick(ahead), quick(-5 * time.Hour)}, ahead, true},
		"a crazy first answer is outvoted by two":        {[]exchange{quick(5 * time.Hour), quick(ahead), quick(ahead)}, ahead, true},
		"a jump is followed with the third answer":       {join(times(9, quick(0)), times(3, quick(ahead))), ahead, true},
		"a jump is not believed at the second":           {join(times(9, quick(0)), times(2, quick(ahead))), 0, true},
		"a jump back":                                    {join(times(9, quick(ahead)), times(3, quick(0))), 0, true},
		"a jump from ahead to behind":                    {join(times(5, quick(ahead)), times(3, quick(-ahead))), -ahead, true},
		"a crazy answer after a jump":                    {join(times(9, quick(0)), times(2, quick(ahead)), times(1, quick(-5*time.Hour)), times(1, quick(ahead))), ahead, true},
		"an answer that took too long says nothing":      {times(5, exchange{ahead: ahead, there: 6 * time.Second, back: 6 * time.Second}), 0, false},
		"an answer before its question says nothing":     {times(5, exchange{ahead: ahead, back: -time.Second}), 0, false},
		"a clock that is more than a day ahead is none":  {times(5, quick(25*time.Hour)), 0, false},
		"a clock that is more than a day behind is none": {times(5, quick(-25*time.Hour)), 0, false},
		"a broken clock is not believed later either":    {join(times(1, quick(ahead)), times(9, quick(-200*365*24*time.Hour))), ahead, true},
		"half of the round trip is allowed for":          {times(5, exchange{ahead: ahead, there: 4 * time.Second, back: 4 * time.Second}), ahead, true},
	} {
		t.Run(sentence, func(t *testing.T) {
			e := &skew.Estimator{}
			observeAll(e, tc.exchanges...)
			if got := e.Offset(); (got-tc.want).Abs() > 500*time.Millisecond || tc.want == 0 && got != 0 || e.Known() != tc.wantKnown {
				t.Errorf("offset %s, known %v; want %s, %v", got, e.Known(), tc.want, tc.wantKnown)
			}
		})
	}
}

func TestATimeThatIsNoneChangesNothing(t *testing.T) {
	e := &skew.Estimator{}
	none := time.Time{}
	for _, answer := range []struct{ served, sent, received time.Time }{
		{none, start(), start()},
		{start(), none, none},
		{start(), none, start()},
		{none, none, none.AddDate(1, 0, 0)},
		{start(), start(), start().Add(-time.Nanosecond)},
		{start(), start(), start().Add(11 * time.Second)},
	} {
		e.Observe(answer.served, answer.sent, answer.received)
	}
	if e.Known() || e.Offset() != 0 {
		t.Errorf("learned %s", e.Offset())
	}
}

// A second of drift is followed, anything less leaves the report as it is to the nanosecond.
func TestTheReportMovesInStepsOfASecond(t *testing.T) {
	e := &skew.Estimator{}
	var reports []time.Duration
	at := start()
	for drift := time.Duration(0); drift < 10*time.Second; drift += 20 * time.Millisecond {
		at = observe(e, at, exchange{ahead: time.Minute + drift, there: 50 * time.Millisecond, back: 50 * time.Millisecond}).Add(37 * time.Second)
		if n := len(reports); n == 0 || reports[n-1] != e.Offset() {
			reports = append(reports, e.Offset())
		}
	}
	for i := 1; i < len(reports); i++ {
		if reports[i]-reports[i-1] < time.Second {
			t.Errorf("moved from %s to %s", reports[i-1], reports[i])
		}
	}
	if last := reports[len(reports)-1]; len(reports) < 5 || (last-70*time.Second).Abs() > 2*time.Second {
		t.Errorf("%v", reports)
	}
}

// Around the edge of the dead band nothing may flap between zero and two seconds.
func TestTheEdgeOfTheDeadBandDoesNotFlap(t *testing.T) {
	for _, ahead := range []time.Duration{2 * time.Second, -2 * time.Second} {
		e, random, changes := &skew.Estimator{}, rand.New(rand.NewPCG(1, 2)), 0
		at, last := start(), time.Duration(0)
		for i := range 1000 {
			at = observe(e, at, exchange{ahead: ahead, there: upTo(random, 100*time.Millisecond)}).Add(upTo(random, time.Minute))
			if e.Offset() != last && i > 5 {
				changes++
			}
			last = e.Offset()
		}
		if changes > 1 {
			t.Errorf("%s ahead: %d changes", ahead, changes)
		}
	}
}

func upTo(random *rand.Rand, limit time.Duration) time.Duration {
	return time.Duration(random.Int64N(int64(limit)))
}

func TestWithinHalfARoundTripAndASecondOfTheTruth(t *testing.T) {
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 0))
		truth := upTo(random, 2*time.Hour) - time.Hour
		e, at, slowest := &skew.Estimator{}, start().Add(upTo(random, time.Second)), time.Duration(0)
		for i := range 200 {
			x := exchange{ahead: truth, there: upTo(random, time.Second), back: upTo(random, time.Second)}
			at = observe(e, at, x).Add(upTo(random, time.Minute))
			slowest = max(slowest, x.there+x.back)
			if off := (e.Offset() - truth).Abs(); truth.Abs() > 4*time.Second && off > slowest/2+time.Second {
				t.Fatalf("seed %d, answer %d: %s off", seed, i, off)
			}
		}
	}
}

func TestAnOutlierAmongNoisyAnswersChangesNothing(t *testing.T) {
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 1))
		truth := upTo(random, 2*time.Hour) - time.Hour
		good := func() exchange {
			return exchange{ahead: truth, there: upTo(random, 200*time.Millisecond), back: upTo(random, 200*time.Millisecond)}
		}
		e, at := &skew.Estimator{}, start().Add(upTo(random, time.Second))
		for range 5 {
			at = observe(e, at, good()).Add(upTo(random, time.Minute))
		}
		before := e.Offset()
		at = observe(e, at, quick(upTo(random, 40*time.Hour)-20*time.Hour)).Add(time.Minute)
		for range 10 {
			// The answers' own noise is half a second and a tenth each way, so the report may move by a step of its own.
			if e.Offset() != before && (e.Offset()-truth).Abs() > 700*time.Millisecond {
				t.Fatalf("seed %d: moved from %s to %s, the truth is %s", seed, before, e.Offset(), truth)
			}
			at = observe(e, at, good()).Add(upTo(random, time.Minute))
		}
	}
}

func TestAJumpIsFollowedWithinFiveAnswers(t *testing.T) {
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 2))
		for _, jump := range []time.Duration{10 * time.Minute, -10 * time.Minute} {
			truth := upTo(random, time.Hour) - 30*time.Minute
			next := func() exchange {
				return exchange{ahead: truth, there: upTo(random, time.Second), back: upTo(random, time.Second)}
			}
			e, at := &skew.Estimator{}, start()
			for range 1 + random.IntN(20) {
				at = observe(e, at, next()).Add(upTo(random, time.Minute))
			}
			truth += jump
			for range 5 {
				at = observe(e, at, next()).Add(upTo(random, time.Minute))
			}
			if off := (e.Offset() - truth).Abs(); off > 3*time.Second {
				t.Errorf("seed %d: %s off after a jump of %s", seed, off, jump)
			}
		}
	}
}

func TestManyObserveAndAskAtOnce(t *testing.T) {
	e := &skew.Estimator{}
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 100 {
				observe(e, start(), quick(time.Minute))
				if !e.Known() || (e.Offset()-time.Minute).Abs() > time.Second {
					t.Errorf("offset %s", e.Offset())
				}
			}
		})
	}
	group.Wait()
}

// FuzzObserve holds the promises for whatever a service may claim: the report is bounded, it is within the documented
// distance of the samples that count, and nothing panics.
func FuzzObserve(f *testing.F) {
	f.Add(int64(0), int64(0), int64(1e8), int64(0))
	f.Add(int64(600e9), int64(-600e9), int64(2e9), int64(1e9))
	f.Add(int64(1)<<62, int64(-1)<<62, int64(1)<<62, int64(-1)<<62)
	f.Add(int64(86400e9), int64(-86400e9), int64(9e9), int64(5e8))
	f.Add(int64(2e9), int64(15e8), int64(1e9), int64(999_999_999))
	f.Fuzz(func(t *testing.T, first, second, roundTrip, phase int64) {
		e := &skew.Estimator{}
		at := start().Add(time.Duration(phase % 1e9))
		for i, ahead := range []int64{first, second, second, first, second, first, first, second} {
			before := e.Offset()
			received := at.Add(time.Duration(roundTrip))
			e.Observe(received.Add(time.Duration(ahead)).Truncate(time.Second), at, received)
			after := e.Offset()
			if after.Abs() > 24*time.Hour || after != 0 && after.Abs() < 2*time.Second {
				t.Fatalf("answer %d: offset %s", i, after)
			}
			if change := (after - before).Abs(); change != 0 && change < time.Second && i > 0 {
				t.Fatalf("answer %d: moved by %s", i, change)
			}
			if !e.Known() && after != 0 {
				t.Fatal("an offset that nobody knows")
			}
			at = received.Add(time.Minute)
		}
	})
}
