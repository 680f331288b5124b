package budget_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/budget"
)

// crowd is many callers of one lane that all come at the same moment.
func crowd(b *budget.Budget, n int, ask budget.Ask, comes time.Duration, late func() time.Duration) []*caller {
	callers := make([]*caller, n)
	for i := range callers {
		ask.ID = fmt.Sprintf("%d-%d-%d", ask.Lane, comes, i)
		callers[i] = &caller{ask: ask, budget: b, comes: comes, late: late, prepares: 5 * ms}
	}
	return callers
}

// FuzzNoSecondHoldsTooManyCalls lets callers of any kind come at any time, with refusals, outages and changed quotas in
// between, and counts what is granted in any second. Calls that are made a little later than granted move by as much.
func FuzzNoSecondHoldsTooManyCalls(f *testing.F) {
	for seed := range uint64(30) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 1))
		rate := 1 + r.Int32N(20)
		b := budget.New(nil, map[budget.Operation]int32{budget.Revoke: rate})
		sim := &simulation{}
		for i := range 200 {
			c := &caller{
				ask:    budget.Ask{Operation: budget.Revoke, Lane: budget.Lane(r.IntN(4)), ID: fmt.Sprint(i), N: 1 + r.IntN(min(3, int(rate)))},
				budget: b, comes: time.Duration(r.Int64N(int64(20 * s))), late: uniform(r, 300*ms),
			}
			if r.IntN(10) == 0 {
				c.vanishes = 1 + r.IntN(2)
			}
			sim.add(c)
		}
		for range r.IntN(4) {
			when := time.Duration(r.Int64N(int64(30 * s)))
			switch r.IntN(3) {
			case 0:
				sim.at(when, func() { b.Throttled(budget.Revoke, sim.time()) })
			case 1:
				sim.at(when, func() { b.Resume(sim.time(), time.Duration(r.Int64N(int64(3*s)))) })
			case 2: // never above the first
				sim.at(when, func() { b.Resize(map[budget.Operation]int32{budget.Revoke: 1 + r.Int32N(rate)}, sim.time()) })
			}
		}
		sim.run(10 * time.Minute)
		if most := busiest(sim.calls); most > int(rate) {
			t.Errorf("%d calls in a second, at most %d", most, rate)
		}
	})
}

func TestNoSlotThatSomebodyAsksForIsWasted(t *testing.T) {
	for sentence, tc := range map[string]struct {
		rate int32
		late time.Duration
	}{
		"of four per second":                            {4, 0},
		"of fifty per second":                           {50, 0},
		"of four, when callers come late by a blink":    {4, 20 * ms},
		"of fifty, when callers come late by a blink":   {50, 10 * ms},
		"of a hundred, when callers come late by a bit": {100, 20 * ms},
	} {
		t.Run(sentence, func(t *testing.T) {
			b := budget.New(nil, map[budget.Operation]int32{budget.Revoke: tc.rate})
			sim, r := &simulation{}, rand.New(rand.NewPCG(7, 7))
			sim.add(crowd(b, int(tc.rate)*60, revoke(budget.RevokeDeleted, ""), 0, uniform(r, tc.late))...)
			sim.run(time.Hour)
			last := slices.MaxFunc(sim.calls, func(a, b call) int { return int(a.at - b.at) }).at
			if used := float64(60*s) / float64(last); used < .95 {
				t.Errorf("a minute's calls took %s: %.0f %% of the slots", last, used*100)
			}
			if per := float64(sim.takes) / float64(len(sim.calls)); per > 20 {
				t.Errorf("%.1f asks for a call", per)
			}
		})
	}
}

// TestTwoThousandDeletionsHoldUpNobody: a hold comes within moments, and so does what is due.
func TestTwoThousandDeletionsHoldUpNobody(t *testing.T) {
	b := budget.New(nil, quota())
	sim, r := &simulation{}, rand.New(rand.NewPCG(3, 3))
	deletions := crowd(b, 2000, revoke(budget.RevokeDeleted, ""), 0, uniform(r, 20*ms))
	sim.add(deletions...)
	var urgent []*caller
	for i := range 20 {
		urgent = append(urgent, crowd(b, 1, revoke(budget.RevokeNow, ""), time.Duration(10+i*7)*s+time.Duration(r.Int64N(int64(s))), uniform(r, 20*ms))...)
	}
	sim.add(urgent...)
	sim.run(time.Hour)
	for _, c := range urgent {
		if waited := c.at - c.comes; !c.called || waited > 600*ms {
			t.Errorf("a hold waited %s behind deletions", waited)
		}
	}
	asks := 0
	for _, c := range deletions {
		if !c.called {
			t.Fatal("a deletion was never granted")
		}
		asks += c.takes
	}
	if per := float64(asks) / float64(len(deletions)); per > 15 {
		t.Errorf("%.1f asks for each deletion", per)
	}
}

func TestWhoWaitsTogetherGoesInOrder(t *testing.T) {
	b := budget.New(nil, quota())
	sim := &simulation{}
	var callers []*caller
	for i := range 40 {
		lane := budget.Lane(i % 4)
		callers = append(callers, &caller{ask: by(time.Duration(100-i)*s, revoke(lane, fmt.Sprint(i))), budget: b, prepares: ms})
	}
	sim.add(callers...)
	sim.run(time.Minute)
	for _, a := range callers {
		for _, c := range callers {
			before := a.ask.Lane < c.ask.Lane || a.ask.Lane == c.ask.Lane && a.ask.Deadline.Before(c.ask.Deadline)
			if before && a.at > c.at && c.at > 2*s { // the first ones go before all have asked
				t.Errorf("lane %d by %s went after lane %d by %s", a.ask.Lane, a.ask.Deadline, c.ask.Lane, c.ask.Deadline)
			}
		}
	}
}

func TestWhoVanishesHoldsUpNobodyForLong(t *testing.T) {
	b := budget.New(nil, quota())
	sim := &simulation{}
	gone := crowd(b, 50, revoke(budget.RevokeNow, ""), 0, nil)
	for _, c := range gone {
		c.vanishes = 1
	}
	sim.add(gone...)
	present := crowd(b, 4, revoke(budget.RevokeHandedOver, ""), ms, nil)
	sim.add(present...)
	sim.run(time.Minute)
	for _, c := range present {
		if !c.called || c.at > 20*s {
			t.Errorf("waited %s behind callers that never came back", c.at)
		}
	}
}

func TestOneCeilingIsOverAllAccounts(t *testing.T) {
	accounts := budget.NewAccounts()
	wide := map[budget.Operation]int32{budget.Apply: 100, budget.Query: 100, budget.Revoke: 100}
	sim, r := &simulation{}, rand.New(rand.NewPCG(5, 5))
	for _, account := range []string{"one", "two"} {
		b := accounts.Join(account, "instance of "+account, wide, epoch)
		for _, operation := range []budget.Operation{budget.Apply, budget.Query, budget.Revoke} {
			sim.add(crowd(b, 500, budget.Ask{Operation: operation, N: 1}, time.Duration(r.Int64N(int64(s))), uniform(r, 5*ms))...)
		}
	}
	sim.run(time.Hour)
	if most := busiest(sim.calls); most > budget.AddressCeiling || len(sim.calls) != 3000 {
		t.Errorf("%d calls in all, %d in one second", len(sim.calls), most)
	}
}

func TestTheSmallestQuotaOfAnAccountCounts(t *testing.T) {
	accounts := budget.NewAccounts()
	state := func(n int32) map[budget.Operation]int32 { return map[budget.Operation]int32{budget.Revoke: n} }
	wide := accounts.Join("account", "wide", state(5), epoch)
	narrow := accounts.Join("account", "narrow", state(1), epoch)
	if wide != narrow {
		t.Fatal("two instances of an account have two budgets")
	}
	if accounts.Join("other", "elsewhere", state(5), epoch) == wide {
		t.Fatal("two accounts share a budget")
	}
	second := func() time.Duration {
		wide.Take(revoke(0, "a"), epoch)
		wide.Done(budget.Revoke, "a")
		wait := wide.Take(revoke(0, "b"), epoch)
		wide.Done(budget.Revoke, "b")
		return wait
	}
	if wait := second(); wait != s {
		t.Errorf("the next call waits %s, want a second", wait)
	}
	accounts.Leave("narrow", epoch.Add(time.Minute))
	sim := &simulation{now: 2 * time.Minute}
	sim.add(crowd(wide, 11, revoke(0, ""), 2*time.Minute, nil)...)
	sim.run(time.Hour)
	if n := between(sim.calls, 2*time.Minute, 2*time.Minute+2*s+100*ms); n < 10 {
		t.Errorf("%d calls in two seconds once the narrow quota is gone", n)
	}
}

func TestManyMayAskAtOnce(*testing.T) {
	accounts := budget.NewAccounts()
	var all sync.WaitGroup
	for n := range 8 {
		all.Go(func() {
			for i := range 200 {
				now := epoch.Add(time.Duration(i) * 10 * ms)
				b := accounts.Join("account", fmt.Sprint(n), quota(), now)
				id := fmt.Sprint(n, i%7)
				if b.Take(revoke(budget.Lane(i%4), id), now) == 0 {
					b.Done(budget.Revoke, id)
				}
				b.Throttled(budget.Apply, now)
				b.Waiting()
				accounts.Leave(fmt.Sprint(n), now)
			}
		})
	}
	all.Wait()
}

// BenchmarkTake asks again and again while ten thousand wait.
func BenchmarkTake(b *testing.B) {
	waiting := budget.New(nil, quota())
	for i := range 10_000 {
		waiting.Take(revoke(budget.Lane(i%4), fmt.Sprint(i)), epoch)
	}
	i := 0
	for b.Loop() {
		i++
		waiting.Take(revoke(budget.Lane(i%4), fmt.Sprint(i%10_000)), epoch.Add(time.Duration(i)*time.Microsecond))
	}
}

// BenchmarkTwoThousandRevokes prints how often a caller asks until it may call.
func BenchmarkTwoThousandRevokes(b *testing.B) {
	for b.Loop() {
		sim, r := &simulation{}, rand.New(rand.NewPCG(9, 9))
		sim.add(crowd(budget.New(nil, quota()), 2000, revoke(budget.RevokeDeleted, ""), 0, uniform(r, 20*ms))...)
		sim.run(time.Hour)
		b.ReportMetric(float64(sim.takes)/float64(len(sim.calls)), "takes/call")
		b.ReportMetric(sim.calls[len(sim.calls)-1].at.Seconds(), "s-in-all")
	}
}

// TestSlowPreparationsStarveNobody asks as the ledger does: before it reads the API server, and again right before it makes
// the call. Such a call counts twice, so the rate is halved; however long the reading takes, it is not lost altogether.
func TestSlowPreparationsStarveNobody(t *testing.T) {
	const callers, perSecond = 400, 4
	for _, prepares := range []time.Duration{50 * ms, 150 * ms, 500 * ms, 900 * ms, 1100 * ms, 3 * s} {
		for _, spread := range []time.Duration{0, prepares / 3} {
			r := rand.New(rand.NewPCG(7, uint64(prepares)))
			b := budget.New(budget.NewCeiling(250), map[budget.Operation]int32{budget.Revoke: perSecond})
			sim := &simulation{}
			for i := range callers {
				sim.add(&caller{
					ask: revoke(budget.RevokeDue, strconv.Itoa(i)), budget: b, late: uniform(r, 10*ms), prepares: prepares + uniform(r, spread)(),
				})
			}
			sim.run(callers / perSecond * s * 22 / 10)
			if made := len(sim.calls); made < callers {
				t.Errorf("prepared in %s and up to %s more: %d calls of %d", prepares, spread, made, callers)
			}
			if most := busiest(sim.calls); most > perSecond+2 {
				t.Errorf("prepared in %s and up to %s more: %d calls in a second", prepares, spread, most)
			}
		}
	}
}
