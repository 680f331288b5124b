package budget_test

import (
	"testing"
	"time"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/budget"
)

const (
	ms = time.Millisecond
	s  = time.Second
)

// quota is what an instance states by default.
func quota() map[budget.Operation]int32 {
	return map[budget.Operation]int32{budget.Apply: 50, budget.Query: 20, budget.Revoke: 4}
}

func revoke(lane budget.Lane, id string) budget.Ask {
	return budget.Ask{Operation: budget.Revoke, Lane: lane, ID: id, N: 1}
}

func many(n int, ask budget.Ask) budget.Ask {
	ask.N = n
	return ask
}

func by(deadline time.Duration, ask budget.Ask) budget.Ask {
	ask.Deadline = epoch.Add(deadline)
	return ask
}

// step is one thing that happens to a budget. Only takes have a wish, and an answer to compare.
type step struct {
	at   time.Duration
	take budget.Ask
	do   func(b *budget.Budget, now time.Time)
	want time.Duration
}

func done(id string) func(*budget.Budget, time.Time) {
	return func(b *budget.Budget, _ time.Time) { b.Done(budget.Revoke, id) }
}

func throttled(b *budget.Budget, now time.Time) { b.Throttled(budget.Revoke, now) }

func resize(perSecond int32) func(*budget.Budget, time.Time) {
	return func(b *budget.Budget, now time.Time) {
		b.Resize(map[budget.Operation]int32{budget.Revoke: perSecond}, now)
	}
}

func resume(delay time.Duration) func(*budget.Budget, time.Time) {
	return func(b *budget.Budget, now time.Time) { b.Resume(now, delay) }
}

func TestTake(t *testing.T) {
	const due, now, deleted = budget.RevokeDue, budget.RevokeNow, budget.RevokeDeleted
	for name, steps := range map[string][]step{
		"calls are a quarter of a second apart at four per second": {
			{take: revoke(due, "a")},
			{take: revoke(due, "b"), want: 250 * ms},
			{take: revoke(due, "c"), want: 500 * ms},
			{at: 250 * ms, take: revoke(due, "b")},
			{at: 500 * ms, take: revoke(due, "c")},
		},
		"who asks again too early keeps its place": {
			{take: revoke(due, "a")},
			{take: revoke(due, "b"), want: 250 * ms},
			{take: revoke(due, "c"), want: 500 * ms},
			{at: 100 * ms, take: revoke(due, "c"), want: 400 * ms},
			{at: 100 * ms, take: revoke(due, "b"), want: 150 * ms},
		},
		"several calls in a row take as many slots": {
			{take: many(2, revoke(due, "a"))},
			{take: revoke(due, "b"), want: 500 * ms},
		},
		"no second holds more calls than the rate, however they come in rows": {
			{take: many(3, revoke(due, "a"))},
			{take: many(3, revoke(due, "b")), want: 1000 * ms},
		},
		"a row longer than the rate goes when nothing else went for a second": {
			{take: revoke(due, "a")},
			{take: many(6, revoke(due, "b")), want: 1000 * ms},
			{at: 1000 * ms, take: many(6, revoke(due, "b"))},
			{at: 1000 * ms, take: revoke(due, "c"), want: 1400 * ms},
		},
		"a quiet time earns nothing": {
			{take: revoke(due, "a")},
			{at: 60 * s, take: revoke(due, "b")},
			{at: 60 * s, take: revoke(due, "c"), want: 250 * ms},
		},
		"who comes a little late does not push back those behind it": {
			{take: revoke(due, "a")},
			{take: revoke(due, "b"), want: 250 * ms},
			{take: revoke(due, "c"), want: 500 * ms},
			{at: 330 * ms, take: revoke(due, "b")},
			{at: 500 * ms, take: revoke(due, "c")},
		},
		"but the second in which it called still holds no more than the rate": {
			{take: revoke(due, "a")},
			{take: revoke(due, "b"), want: 250 * ms},
			{at: 330 * ms, take: revoke(due, "b")},
			{at: 500 * ms, take: revoke(due, "c")},
			{at: 750 * ms, take: revoke(due, "d")},
			{at: 1000 * ms, take: revoke(due, "e")},
			{at: 1250 * ms, take: revoke(due, "f"), want: 80 * ms},
		},
		"a granted caller is granted the same calls again": {
			{take: revoke(due, "a")},
			{at: 10 * ms, take: revoke(due, "a")},
			{at: 10 * ms, take: revoke(due, "b"), want: 240 * ms},
			{do: done("b")},
			{at: 59 * s, take: revoke(due, "a")},
			{at: 60 * s, take: revoke(due, "c")},
			{at: 60 * s, take: revoke(due, "a"), want: 250 * ms},
		},
		"a granted caller that makes its calls much later is counted when it makes them": {
			{take: many(4, revoke(due, "a"))},
			{at: 10 * s, take: many(4, revoke(due, "a"))},
			{at: 10 * s, take: revoke(due, "b"), want: 1000 * ms},
		},
		"callers that were granted one after the other and held up together go one after the other": {
			{take: revoke(due, "a")},
			{at: 250 * ms, take: revoke(due, "b")},
			{at: 500 * ms, take: revoke(due, "c")},
			{at: 750 * ms, take: revoke(due, "d")},
			{at: 1000 * ms, take: revoke(due, "e")},
			{at: 1250 * ms, take: revoke(due, "f")},
			{at: 5 * s, take: revoke(due, "f")},
			{at: 5 * s, take: revoke(due, "e")},
			{at: 5 * s, take: revoke(due, "d")},
			{at: 5 * s, take: revoke(due, "c")},
			{at: 5 * s, take: revoke(due, "b"), want: 1000 * ms},
			{at: 5 * s, take: revoke(due, "a"), want: 1000 * ms},
			{at: 5 * s, take: revoke(due, "g"), want: 1500 * ms},
			{at: 6 * s, take: revoke(due, "a")},
			{at: 6250 * ms, take: revoke(due, "b")},
		},
		"a granted caller that wants more calls waits for the rest": {
			{take: revoke(due, "a")},
			{take: many(3, revoke(due, "a")), want: 250 * ms},
			{take: revoke(due, "b"), want: 750 * ms},
			{at: 250 * ms, take: many(3, revoke(due, "a"))},
			{at: 750 * ms, take: revoke(due, "b")},
		},
		"and goes on with what it has if it wants less again": {
			{take: revoke(due, "a")},
			{take: many(3, revoke(due, "a")), want: 250 * ms},
			{at: 10 * ms, take: revoke(due, "a")},
			{at: 20 * s, take: revoke(due, "a")},
		},
		"none wants at least one call": {
			{take: many(0, revoke(due, "a"))},
			{take: many(-3, revoke(due, "b")), want: 250 * ms},
		},
		"after Done a caller asks anew": {
			{take: revoke(due, "a")},
			{do: done("a")},
			{take: revoke(due, "a"), want: 250 * ms},
		},
		"Done gives up a place": {
			{take: revoke(due, "a")},
			{take: revoke(due, "b"), want: 250 * ms},
			{do: done("b")},
			{do: done("never heard of")},
			{take: revoke(due, "c"), want: 250 * ms},
		},
		"other operations do not wait": {
			{take: revoke(due, "a")},
			{take: budget.Ask{Operation: budget.Apply, ID: "a"}},
			{take: budget.Ask{Operation: budget.Apply, ID: "b"}, want: 20 * ms},
		},
		"an operation that is not listed is not bounded": {
			{take: budget.Ask{Operation: "Other", ID: "a", N: 1000}},
			{take: budget.Ask{Operation: "Other", ID: "b", N: 1000}},
			{do: func(b *budget.Budget, now time.Time) { b.Throttled("Other", now) }},
			{take: budget.Ask{Operation: "Other", ID: "c"}},
		},
		"a smaller lane overtakes": {
			{take: revoke(due, "a")},
			{take: revoke(due, "b"), want: 250 * ms},
			{at: 100 * ms, take: revoke(now, "c"), want: 150 * ms},
			{at: 250 * ms, take: revoke(due, "b"), want: 250 * ms},
			{at: 250 * ms, take: revoke(now, "c")},
			{at: 500 * ms, take: revoke(due, "b")},
		},
		"an earlier deadline overtakes, none comes last": {
			{take: revoke(due, "a")},
			{take: revoke(due, "b"), want: 250 * ms},
			{take: by(time.Hour, revoke(due, "c")), want: 250 * ms},
			{take: by(time.Minute, revoke(due, "d")), want: 250 * ms},
			{take: revoke(due, "b"), want: 750 * ms},
			{take: by(time.Hour, revoke(due, "c")), want: 500 * ms},
		},
		"who asks again with another lane or deadline moves, and among equals keeps its order of asking": {
			{take: revoke(due, "a")},
			{take: revoke(deleted, "b"), want: 250 * ms},
			{take: revoke(due, "c"), want: 250 * ms},
			{take: revoke(due, "b"), want: 250 * ms},
			{take: revoke(due, "c"), want: 500 * ms},
			{take: by(time.Hour, revoke(due, "c")), want: 250 * ms},
		},
		"a free slot is held for a smaller lane that is told to come now": {
			{take: revoke(due, "a")},
			{take: revoke(now, "b"), want: 250 * ms},
			{take: revoke(due, "c"), want: 500 * ms},
			{at: 260 * ms, take: revoke(due, "c"), want: 250 * ms},
			{at: 270 * ms, take: revoke(now, "b")},
		},
		"and for one that is told to come very soon": {
			{take: revoke(due, "a")},
			{take: revoke(now, "b"), want: 250 * ms},
			{take: revoke(now, "c"), want: 500 * ms},
			{do: done("b")},
			{at: 260 * ms, take: revoke(due, "d"), want: 250 * ms},
			{at: 500 * ms, take: revoke(now, "c")},
		},
		"but not for one that comes later": {
			{take: revoke(due, "a")},
			{take: revoke(now, "b"), want: 250 * ms},
			{take: revoke(now, "c"), want: 500 * ms},
			{take: revoke(now, "d"), want: 750 * ms},
			{do: done("b")},
			{do: done("c")},
			{at: 260 * ms, take: revoke(due, "e")},
		},
		"a free slot is held against those of the same lane that were not told to come": {
			{take: revoke(due, "a")},
			{take: revoke(due, "b"), want: 250 * ms},
			{take: revoke(due, "c"), want: 500 * ms},
			{at: 260 * ms, take: revoke(due, "new"), want: 500 * ms},
			{at: 260 * ms, take: revoke(due, "c"), want: 250 * ms},
			{at: 270 * ms, take: revoke(due, "b")},
		},
		"but not against those that were": {
			{take: revoke(due, "a")},
			{take: revoke(due, "b"), want: 250 * ms},
			{take: revoke(due, "c"), want: 500 * ms},
			{at: 500 * ms, take: revoke(due, "c")},
			{at: 510 * ms, take: revoke(due, "b"), want: 140 * ms},
		},
		"a caller that vanishes holds its slot for a second": {
			{take: revoke(due, "a")},
			{take: revoke(now, "b"), want: 250 * ms},
			{at: 900 * ms, take: revoke(due, "c"), want: 350 * ms},
			{at: 1249 * ms, take: revoke(due, "c"), want: 250 * ms},
			{at: 1250 * ms, take: revoke(due, "c")},
		},
		"however many vanish, nobody is turned away from a free slot for longer": {
			{take: revoke(due, "a")},
			{take: revoke(now, "b"), want: 250 * ms},
			{take: revoke(now, "c"), want: 500 * ms},
			{take: revoke(now, "d"), want: 750 * ms},
			{take: revoke(now, "e"), want: 1000 * ms},
			{at: 300 * ms, take: revoke(due, "x"), want: 1000 * ms},
			{at: 1299 * ms, take: revoke(due, "y"), want: 1000 * ms},
			{at: 1300 * ms, take: revoke(due, "y")},
		},
		"who vanished keeps its order of asking for a minute": {
			{take: revoke(due, "a")},
			{take: revoke(due, "b"), want: 250 * ms},
			{at: 60 * s, take: revoke(due, "x")},
			{at: 60 * s, take: revoke(due, "c"), want: 250 * ms},
			{at: 60 * s, take: revoke(due, "b"), want: 250 * ms},
			{at: 60 * s, take: revoke(due, "c"), want: 500 * ms},
		},
		"then it is forgotten": {
			{take: revoke(due, "a")},
			{take: revoke(due, "b"), want: 250 * ms},
			{at: 61 * s, take: revoke(due, "x")},
			{at: 61 * s, take: revoke(due, "c"), want: 250 * ms},
			{at: 61 * s, take: revoke(due, "b"), want: 500 * ms},
		},
		"a refusal halves the rate": {
			{take: revoke(due, "a")},
			{do: throttled},
			{take: revoke(due, "b"), want: 500 * ms},
			{take: revoke(due, "c"), want: time.Second},
		},
		"refusals within a second count once": {
			{take: revoke(due, "a")},
			{do: throttled},
			{at: 300 * ms, do: throttled},
			{at: 999 * ms, do: throttled},
			{at: 999 * ms, take: revoke(due, "b")},
			{at: 999 * ms, take: revoke(due, "c"), want: 500 * ms},
		},
		"refusals in later seconds halve it again": {
			{do: throttled},
			{at: 1 * s, do: throttled},
			{at: 1 * s, take: revoke(due, "a")},
			{at: 1 * s, take: revoke(due, "b"), want: 1 * s},
		},
		"a sixteenth of the rate stays": {
			{do: throttled},
			{at: 1 * s, do: throttled},
			{at: 2 * s, do: throttled},
			{at: 3 * s, do: throttled},
			{at: 4 * s, do: throttled},
			{at: 5 * s, do: throttled},
			{at: 5 * s, take: revoke(due, "a")},
			{at: 5 * s, take: revoke(due, "b"), want: 4 * s},
		},
		"ten seconds without a refusal give back a sixteenth": {
			{do: throttled},
			{at: 10 * s, take: revoke(due, "a")},
			{at: 10 * s, take: revoke(due, "b"), want: 444444445}, // nine sixteenths of four per second
			{at: 80 * s, take: revoke(due, "c")},
			{at: 80 * s, take: revoke(due, "d"), want: 250 * ms},
		},
		"nobody goes before the delay after an outage is over": {
			{do: resume(3 * s)},
			{take: revoke(now, "a"), want: 3 * s},
			{take: budget.Ask{Operation: "Other", ID: "a"}, want: 3 * s},
			{at: 2999 * ms, take: revoke(now, "b"), want: 1*ms + 952380953}, // by then the rate has risen
			{at: 3 * s, take: revoke(now, "a")},
		},
		"then the rate starts at a quarter": {
			{do: resume(0)},
			{take: revoke(due, "a")},
			{take: revoke(due, "b"), want: time.Second},
		},
		"and is whole after half a minute": {
			{do: resume(0)},
			{at: 15 * s, take: revoke(due, "a")},
			{at: 15 * s, take: revoke(due, "b"), want: 400 * ms},
			{at: 30 * s, take: revoke(due, "c")},
			{at: 30 * s, take: revoke(due, "d"), want: 250 * ms},
		},
		"a smaller rate counts at once": {
			{take: revoke(due, "a")},
			{take: revoke(due, "b"), want: 250 * ms},
			{do: resize(2)},
			{at: 250 * ms, take: revoke(due, "b"), want: 250 * ms},
			{at: 500 * ms, take: revoke(due, "b")},
		},
		"and so does a larger one": {
			{take: revoke(due, "a")},
			{take: revoke(due, "b"), want: 250 * ms},
			{do: resize(5)},
			{at: 200 * ms, take: revoke(due, "b")},
		},
		"the second before a smaller rate counts": {
			{take: revoke(due, "a")},
			{at: 250 * ms, take: revoke(due, "b")},
			{at: 500 * ms, take: revoke(due, "c")},
			{at: 500 * ms, do: resize(2)},
			{at: 500 * ms, take: revoke(due, "d"), want: 750 * ms},
		},
		"an operation that is listed no more is not bounded any more, and one that is, is": {
			{take: revoke(due, "a")},
			{do: func(b *budget.Budget, now time.Time) { b.Resize(map[budget.Operation]int32{"Other": 1}, now) }},
			{take: revoke(due, "b")},
			{take: budget.Ask{Operation: "Other", ID: "a"}},
			{take: budget.Ask{Operation: "Other", ID: "b"}, want: time.Second},
		},
		"a long wait is halved": {
			{take: many(4, revoke(due, "a"))},
			{take: many(38, revoke(due, "b")), want: 1000 * ms},
			{take: revoke(due, "c"), want: 5250 * ms},
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := budget.New(nil, quota())
			for i, step := range steps {
				at := epoch.Add(step.at)
				if step.do != nil {
					step.do(b, at)
					continue
				}
				if got := b.Take(step.take, at); got != step.want {
					t.Errorf("step %d: %s at %v: got %v, want %v", i, step.take.ID, step.at, got, step.want)
				}
			}
		})
	}
}
