package budget_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/budget"
)

// model says how many calls a second may hold, by the rules as they are written down.
type model struct {
	configured      int32
	share           float64
	refused, halved time.Duration
	resumed         time.Duration
}

func (m *model) shareAt(now time.Duration) float64 {
	return min(1, m.share+math.Floor((now-m.refused).Seconds()/10)/16)
}

func (m *model) throttled(now time.Duration) {
	m.share = m.shareAt(now)
	if now-m.halved >= s {
		m.share, m.halved = max(m.share/2, 1.0/16), now
	}
	m.refused = now
}

func (m *model) limit(now time.Duration) int {
	start := min(1, .25+.75*max(0, now-m.resumed).Seconds()/30)
	return int(math.Ceil(float64(m.configured)*m.shareAt(now)*start - 1e-9))
}

// FuzzEveryGrantIsWithinTheRateOfItsMoment holds each grant against the rate as refusals, outages and resizes have left it
// then: together with what was granted in the second before, it is within that rate.
func FuzzEveryGrantIsWithinTheRateOfItsMoment(f *testing.F) {
	for seed := range uint64(40) {
		f.Add(seed, uint8(1+seed*7%100), uint8(seed%5))
	}
	f.Fuzz(func(t *testing.T, seed uint64, perSecond, row uint8) {
		r := rand.New(rand.NewPCG(seed, 2))
		m := &model{configured: 1 + int32(perSecond)%100, share: 1, halved: -time.Hour, resumed: -time.Hour}
		b := budget.New(nil, map[budget.Operation]int32{budget.Revoke: m.configured})
		sim, callers := &simulation{}, []*caller{}
		late := uniform(r, time.Duration(r.Int64N(int64(2*s))))
		for i := range 150 {
			c := &caller{ask: many(1+r.IntN(1+int(row)%5), revoke(budget.Lane(r.IntN(4)), fmt.Sprint(i))), budget: b, late: late}
			c.comes = time.Duration(r.Int64N(int64(20 * s)))
			if r.IntN(2) == 0 {
				c.ask = by(time.Duration(r.Int64N(int64(time.Hour))), c.ask)
			}
			if r.IntN(8) == 0 {
				c.vanishes = 1 + r.IntN(3)
			}
			if r.IntN(3) == 0 {
				c.woken = []time.Duration{time.Duration(r.Int64N(int64(30 * s)))}
			}
			callers = append(callers, c)
		}
		sim.add(callers...)
		for range r.IntN(8) {
			happens(r, sim, b, m)
		}
		check := func() {
			n := between(sim.calls, sim.now-s+1, sim.now+1)
			last := max(1, sim.calls[len(sim.calls)-1].who.ask.N)
			if limit := m.limit(sim.now); n > limit && n > last {
				t.Fatalf("at %v: %d calls in a second that may hold %d", sim.now, n, limit)
			}
		}
		for len(sim.events) > 0 {
			before := len(sim.calls)
			sim.run(sim.events[0].at)
			if len(sim.calls) > before {
				check()
			}
			if sim.now > 5*time.Hour {
				t.Fatal("somebody waits for ever")
			}
		}
		for _, c := range callers {
			if !c.called && c.vanishes == 0 {
				t.Errorf("%s came back each time and was never granted", c.ask.ID)
			}
		}
		b.Resize(nil, sim.time().Add(time.Hour))
		if diff := cmp.Diff(map[budget.Operation]int{budget.Revoke: 0}, b.Waiting()); diff != "" {
			t.Errorf("waiting in the end (-want +got):\n%s", diff)
		}
	})
}

// happens plans one thing that changes the rate.
func happens(r *rand.Rand, sim *simulation, b *budget.Budget, m *model) {
	what, delay, perSecond := r.IntN(3), time.Duration(r.Int64N(int64(5*s))), 1+r.Int32N(100)
	sim.at(time.Duration(r.Int64N(int64(40*s))), func() {
		switch what {
		case 0:
			b.Throttled(budget.Revoke, sim.time())
			m.throttled(sim.now)
		case 1:
			b.Resume(sim.time(), delay)
			m.resumed = sim.now + delay
		case 2:
			b.Resize(map[budget.Operation]int32{budget.Revoke: perSecond}, sim.time())
			m.configured = perSecond
		}
	})
}

// TestOnTimeTheOrderIsExact: lanes, deadlines and the order of asking, from the second grant on: the first goes before the
// others have asked.
func TestOnTimeTheOrderIsExact(t *testing.T) {
	for _, rate := range []int32{1, 4, 50, 100} {
		r := rand.New(rand.NewPCG(uint64(rate), 3))
		b := budget.New(nil, map[budget.Operation]int32{budget.Revoke: rate})
		sim, asked := &simulation{}, map[*caller]int{}
		for i := range 300 {
			c := &caller{ask: revoke(budget.Lane(r.IntN(4)), fmt.Sprint(i)), budget: b}
			if r.IntN(3) > 0 {
				c.ask = by(time.Duration(r.IntN(20))*time.Minute, c.ask)
			}
			asked[c] = i
			sim.add(c)
		}
		sim.run(time.Hour)
		key := func(c *caller) [3]int {
			deadline := math.MaxInt
			if !c.ask.Deadline.IsZero() {
				deadline = int(c.ask.Deadline.Unix())
			}
			return [3]int{int(c.ask.Lane), deadline, asked[c]}
		}
		for i := 2; i < len(sim.calls); i++ {
			before, after := key(sim.calls[i-1].who), key(sim.calls[i].who)
			for j := range before {
				if before[j] > after[j] {
					t.Errorf("%d per second: grant %d of %v came after %v", rate, i, after, before)
				}
				if before[j] != after[j] {
					break
				}
			}
		}
	}
}

// TestThoseThatComeUnaskedTakeNothing: reconciles happen for many reasons; they must not take the slots of those that were
// told to come.
func TestThoseThatComeUnaskedTakeNothing(t *testing.T) {
	b, r := budget.New(nil, quota()), rand.New(rand.NewPCG(11, 11))
	sim := &simulation{}
	first := crowd(b, 40, revoke(budget.RevokeDue, ""), 0, uniform(r, 100*ms))
	rest := crowd(b, 400, revoke(budget.RevokeDue, ""), ms, uniform(r, 100*ms))
	for _, c := range rest {
		for range 10 {
			c.woken = append(c.woken, time.Duration(r.Int64N(int64(12*s))))
		}
	}
	sim.add(first...)
	sim.add(rest...)
	sim.run(time.Hour)
	for _, c := range first {
		if c.at > 11500*ms { // forty calls take ten seconds
			t.Errorf("one of the first forty waited %v", c.at)
		}
	}
}

func TestAnUrgentRevocationWaitsForOneSlotAtMost(t *testing.T) {
	b, r := budget.New(nil, quota()), rand.New(rand.NewPCG(13, 13))
	sim, urgent := &simulation{}, []*caller{}
	sim.add(crowd(b, 2000, revoke(budget.RevokeDeleted, ""), 0, nil)...)
	for i := range 400 {
		urgent = append(urgent, &caller{
			ask: revoke(budget.RevokeNow, fmt.Sprint("urgent ", i)), budget: b,
			comes: time.Duration(i)*s + time.Duration(r.Int64N(int64(s/2))),
		})
	}
	sim.add(urgent...)
	sim.run(time.Hour)
	for _, c := range urgent {
		if waited := c.at - c.comes; !c.called || waited > 250*ms {
			t.Errorf("waited %v", waited)
		}
	}
}

func TestOneThatVanishesCostsAGraceAtMost(t *testing.T) {
	for sentence, lane := range map[string]budget.Lane{
		"in a lane before":  budget.RevokeNow,
		"in the same lane":  budget.RevokeDue,
		"in a lane behind":  budget.RevokeDeleted,
		"in the last lanes": budget.RevokeHandedOver,
	} {
		t.Run(sentence, func(t *testing.T) {
			b := budget.New(nil, quota())
			sim := &simulation{}
			sim.add(crowd(b, 1, revoke(budget.RevokeDue, ""), 0, nil)...)
			gone := crowd(b, 3, revoke(lane, ""), ms, nil)
			for _, c := range gone {
				c.vanishes = 1
			}
			sim.add(gone...)
			present := crowd(b, 8, revoke(budget.RevokeDue, "present"), 2*ms, nil)
			sim.add(present...)
			sim.run(time.Minute)
			// Three slots for those that vanish, eight for those that do not, and the grace.
			if last := sim.calls[len(sim.calls)-1]; len(sim.calls) != 9 || last.at > 11*250*ms+s+50*ms {
				t.Errorf("%d calls, the last at %v", len(sim.calls), last.at)
			}
		})
	}
}

// TestAnUnevenCrowdUsesTheRate: callers that come late by several intervals must not wait for each other.
func TestAnUnevenCrowdUsesTheRate(t *testing.T) {
	b, r := budget.New(nil, map[budget.Operation]int32{budget.Apply: 100}), rand.New(rand.NewPCG(23, 23))
	sim := &simulation{}
	for i := range 2000 {
		ask := by(time.Duration(r.IntN(1000))*s, budget.Ask{Operation: budget.Apply, Lane: budget.Lane(i % 3), ID: fmt.Sprint(i)})
		sim.add(&caller{ask: ask, budget: b, late: uniform(r, 50*ms)})
	}
	sim.run(time.Hour)
	if last := sim.calls[len(sim.calls)-1].at; len(sim.calls) != 2000 || last > 20500*ms {
		t.Errorf("%d calls took %v", len(sim.calls), last)
	}
}

func TestASlowStartIsUsed(t *testing.T) {
	for _, rate := range []int32{4, 50} {
		b, r := budget.New(nil, map[budget.Operation]int32{budget.Apply: rate}), rand.New(rand.NewPCG(17, 17))
		sim := &simulation{}
		sim.at(0, func() { b.Resume(sim.time(), 5*s) })
		sim.add(crowd(b, 100*int(rate), budget.Ask{Operation: budget.Apply, N: 1}, ms, uniform(r, 5*ms))...)
		sim.run(time.Minute)
		if n := between(sim.calls, 0, 5*s); n > 0 {
			t.Errorf("%d calls before the delay was over", n)
		}
		// From a quarter to the whole: five eighths of half a minute.
		if n, want := between(sim.calls, 5*s, 35*s), 30*float64(rate)*5/8; float64(n) < .95*want || float64(n) > 1.05*want {
			t.Errorf("%d calls in half a minute, want about %.0f", n, want)
		}
	}
}

// TestUnderTheCeilingOperationsTakeTurns: many accounts want more than the address may have.
func TestUnderTheCeilingOperationsTakeTurns(t *testing.T) {
	ceiling, r := budget.NewCeiling(budget.AddressCeiling), rand.New(rand.NewPCG(19, 19))
	sim := &simulation{}
	for range 5 {
		b := budget.New(ceiling, map[budget.Operation]int32{budget.Apply: 100, budget.Revoke: 4})
		sim.add(crowd(b, 1000, budget.Ask{Operation: budget.Apply, N: 1}, 0, uniform(r, 5*ms))...)
		sim.add(crowd(b, 60, revoke(budget.RevokeDue, ""), 0, uniform(r, 5*ms))...)
	}
	sim.run(14 * s)
	type line struct {
		budget    *budget.Budget
		operation budget.Operation
	}
	per := map[line]int{}
	for _, c := range sim.calls {
		per[line{c.who.budget, c.who.ask.Operation}]++
	}
	for l, n := range per {
		if want := map[budget.Operation]int{budget.Apply: 600, budget.Revoke: 50}[l.operation]; n < want {
			t.Errorf("%s had %d calls, want at least %d", l.operation, n, want)
		}
	}
	if most := busiest(sim.calls); most > budget.AddressCeiling {
		t.Errorf("%d calls in a second", most)
	}
	if n := between(sim.calls, 0, 14*s); float64(n) < .95*14*budget.AddressCeiling {
		t.Errorf("%d calls in 14 seconds", n)
	}
	if per := float64(sim.takes) / float64(len(sim.calls)); per > 20 {
		t.Errorf("%.1f asks for a call", per)
	}
}

func TestTheCeilingBoundsWhatNoQuotaDoes(t *testing.T) {
	b := budget.New(budget.NewCeiling(10), nil)
	sim := &simulation{}
	sim.add(crowd(b, 100, budget.Ask{Operation: "Other", N: 1}, 0, nil)...)
	sim.run(time.Minute)
	if most, last := busiest(sim.calls), sim.calls[len(sim.calls)-1].at; most != 10 || last > 15*s {
		t.Errorf("%d calls in a second, the last of %d at %v", most, len(sim.calls), last)
	}
}

func TestWaiting(t *testing.T) {
	b := budget.New(nil, quota())
	for _, id := range []string{"granted", "waits", "waits, too"} {
		b.Take(revoke(budget.RevokeDue, id), epoch)
	}
	want := map[budget.Operation]int{budget.Apply: 0, budget.Query: 0, budget.Revoke: 2}
	if diff := cmp.Diff(want, b.Waiting()); diff != "" {
		t.Errorf("two wait (-want +got):\n%s", diff)
	}
	b.Done(budget.Revoke, "waits")
	b.Resize(quota(), epoch.Add(10*s))
	want[budget.Revoke] = 0
	if diff := cmp.Diff(want, b.Waiting()); diff != "" {
		t.Errorf("one is done, one never came back (-want +got):\n%s", diff)
	}
}

func TestAccountsKnowWhoIsWhere(t *testing.T) {
	four := map[budget.Operation]int32{budget.Revoke: 4}
	one := map[budget.Operation]int32{budget.Revoke: 1, budget.Apply: 1}
	// next is how long the second of two new callers waits.
	next := func(b *budget.Budget, operation budget.Operation, now time.Time) time.Duration {
		defer b.Done(operation, "a")
		defer b.Done(operation, "b")
		b.Take(budget.Ask{Operation: operation, ID: "a"}, now)
		return b.Take(budget.Ask{Operation: operation, ID: "b"}, now)
	}
	for sentence, tc := range map[string]struct {
		do         func(*budget.Accounts)
		wantRevoke time.Duration
		wantApply  time.Duration
	}{
		"one instance's quota is the account's": {wantRevoke: 250 * ms},
		"the smallest counts, and one that only one instance states does": {
			do:         func(a *budget.Accounts) { a.Join("account", "second", one, epoch) },
			wantRevoke: s, wantApply: s,
		},
		"an instance's last word counts": {
			do: func(a *budget.Accounts) {
				a.Join("account", "second", one, epoch)
				a.Join("account", "second", four, epoch)
			},
			wantRevoke: 250 * ms,
		},
		"what an instance that left has stated does not count": {
			do: func(a *budget.Accounts) {
				a.Join("account", "second", one, epoch)
				a.Leave("second", epoch)
			},
			wantRevoke: 250 * ms,
		},
		"nor what one has that joined another account": {
			do: func(a *budget.Accounts) {
				a.Join("account", "second", one, epoch)
				a.Join("other", "second", one, epoch)
			},
			wantRevoke: 250 * ms,
		},
		"another account's quota does not count": {
			do:         func(a *budget.Accounts) { a.Join("other", "second", one, epoch) },
			wantRevoke: 250 * ms,
		},
		"an unknown instance may leave": {
			do:         func(a *budget.Accounts) { a.Leave("never heard of", epoch) },
			wantRevoke: 250 * ms,
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			accounts := budget.NewAccounts()
			b := accounts.Join("account", "first", four, epoch)
			if tc.do != nil {
				tc.do(accounts)
			}
			if again := accounts.Join("account", "first", four, epoch); again != b {
				t.Error("the account's budget is another one")
			}
			now := epoch.Add(time.Minute)
			got, want := [2]time.Duration{next(b, budget.Revoke, now)}, [2]time.Duration{tc.wantRevoke, tc.wantApply}
			if got[1] = next(b, budget.Apply, now); got[1] < 20*ms {
				got[1] = 0 // not bounded but by the ceiling
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("the next call of each operation (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAnAccountIsRememberedForAWhile(t *testing.T) {
	accounts := budget.NewAccounts()
	b := accounts.Join("account", "instance", quota(), epoch)
	accounts.Leave("instance", epoch)
	if accounts.Join("account", "instance", quota(), epoch.Add(3*time.Minute)) != b {
		t.Error("a reconnected instance starts a new second")
	}
	accounts.Leave("instance", epoch.Add(3*time.Minute))
	if accounts.Join("account", "instance", quota(), epoch.Add(6*time.Minute+1)) == b {
		t.Error("an account that nobody uses is never forgotten")
	}
}

// BenchmarkTenThousandApplies prints how often a caller asks until it may call, in the longest queue of the fastest
// operation.
func BenchmarkTenThousandApplies(b *testing.B) {
	for b.Loop() {
		sim, r := &simulation{}, rand.New(rand.NewPCG(9, 9))
		all := crowd(budget.New(nil, quota()), 10_000, budget.Ask{Operation: budget.Apply, N: 1}, 0, uniform(r, 5*ms))
		for i, c := range all {
			c.ask = by(time.Duration(r.IntN(3600))*s, c.ask)
			c.ask.Lane = budget.Lane(i % 3)
		}
		sim.add(all...)
		sim.run(time.Hour)
		b.ReportMetric(float64(sim.takes)/float64(len(sim.calls)), "takes/call")
		b.ReportMetric(sim.calls[len(sim.calls)-1].at.Seconds(), "s-in-all")
	}
}
