package plan_test

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/plan"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/topic"
)

// change wants what the generation below allows, of the same client.
func change(mods ...func(*plan.Change)) plan.Change {
	c := plan.Change{
		Now: now.Add(time.Millisecond), Client: "client", Overlap: 5 * time.Minute,
		Wanted: []token.Scope{scope(token.Publish, "a", "w/#"), scope(token.Subscribe, "b")},
	}
	for _, mod := range mods {
		mod(&c)
	}
	return c
}

// generation is an hour old and good for a day.
func generation(mods ...func(*plan.Generation)) plan.Generation {
	g := plan.Generation{
		Scope: scope(token.Publish, "a"), Client: "client", KeyID: "key", Issued: now.Add(-time.Hour), Expires: now.Add(23 * time.Hour),
	}
	for _, mod := range mods {
		mod(&g)
	}
	return g
}

func all(cause plan.Cause) func(*plan.Change)    { return func(c *plan.Change) { c.All = cause } }
func overlap(d time.Duration) func(*plan.Change) { return func(c *plan.Change) { c.Overlap = d } }
func notTrusted(key string) func(*plan.Change)   { return func(c *plan.Change) { c.Compromised = key } }

func allowing(s token.Scope) func(*plan.Generation) { return func(g *plan.Generation) { g.Scope = s } }

func ofClient(c string) func(*plan.Generation) { return func(g *plan.Generation) { g.Client = c } }

func ofKey(key string) func(*plan.Generation) { return func(g *plan.Generation) { g.KeyID = key } }

func ending(t time.Time) func(*plan.Generation) { return func(g *plan.Generation) { g.Expires = t } }

func onRecord(t time.Time) func(*plan.Generation) { return func(g *plan.Generation) { g.RevokeAt = t } }

// TestChangeOf has one row per rule, and for each pair of neighbours one where both match.
func TestChangeOf(t *testing.T) {
	end := now.Add(5 * time.Minute)
	wider := allowing(scope(token.Publish, "a", "c"))
	left, endsFirst := plan.Fate{}, plan.Fate{EndsFirst: true}
	narrowed := func(at time.Time) plan.Fate { return plan.Fate{RevokeAt: at, Cause: plan.CauseNarrowed} }
	type (
		changes     = []func(*plan.Change)
		generations = []func(*plan.Generation)
	)
	for sentence, tc := range map[string]struct {
		change     changes
		generation generations
		want       plan.Fate
	}{
		"what allows the same is left to expire":         {nil, nil, left},
		"what allows less is left to expire":             {nil, generations{allowing(scope(token.Publish, "w/1/+", "w/2"))}, left},
		"a topic more goes after the overlap":            {nil, generations{wider}, narrowed(end)},
		"an action more goes after the overlap":          {nil, generations{allowing(scope(token.PublishSubscribe, "a"))}, narrowed(end)},
		"what nothing is wanted of any more goes too":    {changes{func(c *plan.Change) { c.Wanted = nil }}, nil, narrowed(end)},
		"another client's goes after the overlap":        {nil, generations{ofClient("other")}, narrowed(end)},
		"no overlap is now":                              {changes{overlap(0)}, generations{wider}, narrowed(now)},
		"an odd overlap ends at a whole second":          {changes{overlap(1500 * time.Millisecond)}, generations{wider}, narrowed(now.Add(time.Second))},
		"what ends within the overlap ends first":        {nil, generations{wider, ending(end.Add(-1))}, endsFirst},
		"what ends with the overlap ends first":          {nil, generations{wider, ending(end)}, endsFirst},
		"what ends a moment after the overlap does not":  {nil, generations{wider, ending(end.Add(1))}, narrowed(end)},
		"a moment on record stands":                      {nil, generations{onRecord(soon)}, narrowed(soon)},
		"an earlier moment on record stands for a wider": {nil, generations{wider, onRecord(soon)}, narrowed(soon)},
		"a moment on record that has passed stands":      {nil, generations{onRecord(past)}, narrowed(past)},
		"a later moment on record gives way":             {nil, generations{onRecord(later)}, narrowed(end)},
		"an odd moment on record is the second before":   {nil, generations{onRecord(soon.Add(time.Millisecond))}, narrowed(soon)},

		"a compromised key's goes after the overlap": {changes{notTrusted("key")}, nil, plan.Fate{RevokeAt: end, Cause: plan.CauseCompromised}},
		"so does one of a key that nobody knows":     {changes{notTrusted("key")}, generations{ofKey("")}, plan.Fate{RevokeAt: end, Cause: plan.CauseCompromised}},
		"a compromised key's that ends first":        {changes{notTrusted("key")}, generations{ending(soon)}, endsFirst},
		"another key's is left to expire":            {changes{notTrusted("other")}, nil, left},
		"without a compromised key nobody asks":      {nil, generations{ofKey("")}, left},
		"narrowed comes before compromised":          {changes{notTrusted("key")}, generations{wider}, narrowed(end)},

		"a hold takes everything at once":            {changes{all(plan.CauseHeld)}, nil, plan.Fate{RevokeAt: now, Cause: plan.CauseHeld}},
		"a hold does not wait for what is on record": {changes{all(plan.CauseHeld)}, generations{onRecord(soon)}, plan.Fate{RevokeAt: now, Cause: plan.CauseHeld}},
		"a hold leaves what has ended":               {changes{all(plan.CauseHeld)}, generations{ending(now)}, endsFirst},
		"a reissue takes everything at once":         {changes{all(plan.CauseReissued)}, nil, plan.Fate{RevokeAt: now, Cause: plan.CauseReissued}},
		"a surplus goes at once":                     {changes{all(plan.CauseSurplus)}, nil, plan.Fate{RevokeAt: now, Cause: plan.CauseSurplus}},
		"a denial takes everything after an overlap": {changes{all(plan.CauseDenied)}, nil, plan.Fate{RevokeAt: end, Cause: plan.CauseDenied}},
		"a denial stands by what is on record":       {changes{all(plan.CauseDenied)}, generations{onRecord(soon)}, plan.Fate{RevokeAt: soon, Cause: plan.CauseDenied}},
		"a denial leaves what ends first":            {changes{all(plan.CauseDenied)}, generations{ending(soon)}, endsFirst},
		"a deletion takes it after an overlap":       {changes{all(plan.CauseDeleted)}, nil, plan.Fate{RevokeAt: end, Cause: plan.CauseDeleted}},
		"all come before narrowed and compromised":   {changes{all(plan.CauseDeleted), notTrusted("key")}, generations{wider}, plan.Fate{RevokeAt: end, Cause: plan.CauseDeleted}},
	} {
		t.Run(sentence, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, change(tc.change...).Of(generation(tc.generation...))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestChangeOfAllRevokesTheOldestBeyondTheBound(t *testing.T) {
	age := func(d time.Duration) func(*plan.Generation) {
		return func(g *plan.Generation) { g.Issued = now.Add(-d) }
	}
	surplus := plan.Fate{RevokeAt: now, Cause: plan.CauseSurplus}
	must := plan.Fate{RevokeAt: now.Add(5 * time.Minute), Cause: plan.CauseNarrowed}
	full := slices.Repeat([]plan.Generation{generation()}, plan.MaxRetired)
	fates := func(n int, then ...plan.Fate) []plan.Fate { return append(make([]plan.Fate, n), then...) }
	for sentence, tc := range map[string]struct {
		generations []plan.Generation
		want        []plan.Fate
	}{
		"none are none":                          {nil, []plan.Fate{}},
		"as many as may be are left":             {full, fates(plan.MaxRetired)},
		"an older one must go":                   {append([]plan.Generation{generation(age(2 * time.Hour))}, full...), append([]plan.Fate{surplus}, fates(plan.MaxRetired)...)},
		"a younger one has an older one go":      {append(slices.Clone(full), generation(age(time.Minute))), append(fates(plan.MaxRetired-1), surplus, plan.Fate{})},
		"of those of one age the last must go":   {append(slices.Clone(full), generation()), fates(plan.MaxRetired, surplus)},
		"one that must go anyway does not count": {append(slices.Clone(full), generation(ofClient("other"))), fates(plan.MaxRetired, must)},
		"one that ends first counts":             {append(slices.Clone(full), generation(ofClient("other"), ending(soon), age(2*time.Hour))), fates(plan.MaxRetired, surplus)},
	} {
		t.Run(sentence, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, change().OfAll(tc.generations)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestExceeds(t *testing.T) {
	for sentence, tc := range map[string]struct {
		old    token.Scope
		wanted []token.Scope
		want   bool
	}{
		"the same scope":                    {scope(token.Publish, "a"), []token.Scope{scope(token.Publish, "a")}, false},
		"a wider scope follows":             {scope(token.Publish, "a"), []token.Scope{scope(token.Publish, "a", "b")}, false},
		"another action follows beside it":  {scope(token.Publish, "a"), []token.Scope{scope(token.PublishSubscribe, "a")}, false},
		"two tokens follow one":             {scope(token.PublishSubscribe, "a"), []token.Scope{scope(token.Publish, "a"), scope(token.Subscribe, "a")}, false},
		"a filter that covers it follows":   {scope(token.Publish, "a/b"), []token.Scope{scope(token.Publish, "a/#")}, false},
		"a topic is lost":                   {scope(token.Publish, "a", "b"), []token.Scope{scope(token.Publish, "a")}, true},
		"an action is lost":                 {scope(token.PublishSubscribe, "a"), []token.Scope{scope(token.Publish, "a")}, true},
		"a wildcard is lost":                {scope(token.Publish, "a/#"), []token.Scope{scope(token.Publish, "a/b", "a")}, true},
		"the other action covers it":        {scope(token.Publish, "a"), []token.Scope{scope(token.Subscribe, "a")}, true},
		"nothing follows":                   {scope(token.Publish, "a"), nil, true},
		"only two filters together cover":   {scope(token.Publish, "a/#"), []token.Scope{scope(token.Publish, "a", "a/+/#")}, true},
		"a scope of no type allows nothing": {token.Scope{}, nil, false},
	} {
		t.Run(sentence, func(t *testing.T) {
			if got := plan.Exceeds(tc.old, tc.wanted); got != tc.want {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
}

// FuzzChangeOfAll compares the fates with an oracle that knows neither Covers nor Allows: it tries every topic name over
// a small alphabet.
func FuzzChangeOfAll(f *testing.F) {
	for i := range uint64(300) {
		f.Add(i, uint8(i), i%3 == 0)
	}
	world := newWorld()
	f.Fuzz(func(t *testing.T, seed uint64, count uint8, mostlyLeft bool) {
		d := dice{Rand: rand.New(rand.NewPCG(seed, 0)), filters: world.filters, mostlyLeft: mostlyLeft}
		c := d.change()
		generations := make([]plan.Generation, count%64)
		for i := range generations {
			generations[i] = d.generation(c)
		}
		before := slices.Clone(generations)
		fates := c.OfAll(generations)
		if diff := cmp.Diff(fates, c.OfAll(generations)); diff != "" {
			t.Fatalf("asked twice, answered twice: %s", diff)
		}
		if diff := cmp.Diff(before, generations, cmp.Comparer(func(a, b topic.Filter) bool { return a == b })); diff != "" {
			t.Fatalf("changed what it was asked about: %s", diff)
		}
		if len(fates) != len(generations) {
			t.Fatalf("%d fates for %d generations", len(fates), len(generations))
		}
		for i, g := range generations {
			world.judge(t, c, g, fates[i])
		}
		judgeSurplus(t, c, generations, fates)
	})
}

// judge holds one fate against what the token allows.
func (w world) judge(t *testing.T, c plan.Change, g plan.Generation, fate plan.Fate) {
	t.Helper()
	end := c.Now.Add(c.Overlap)
	stranger := g.Client != c.Client || w.exceeds(g.Scope, c.Wanted)
	untrusted := c.Compromised != "" && (g.KeyID == c.Compromised || g.KeyID == "")
	mustGo := c.All != "" || stranger || untrusted || !g.RevokeAt.IsZero()
	usableAtEnd := g.Expires.After(end) && (fate.RevokeAt.IsZero() || fate.RevokeAt.After(end))
	atOnce := fate.Cause == plan.CauseHeld || fate.Cause == plan.CauseReissued || fate.Cause == plan.CauseSurplus
	harmless := !mustGo && w.coveredOneByOne(g.Scope, c.Wanted)
	switch {
	case !fate.RevokeAt.Equal(fate.RevokeAt.Truncate(time.Second)):
		t.Fatalf("%+v is not in whole seconds", fate)
	case fate.RevokeAt.After(g.Expires):
		t.Fatalf("%+v comes after the end %v", fate, g.Expires)
	case fate.RevokeAt.IsZero() != (fate.Cause == ""):
		t.Fatalf("%+v says when and not why, or the other way round", fate)
	case fate.EndsFirst && (!fate.RevokeAt.IsZero() || g.Expires.After(end)):
		t.Fatalf("%+v of what ends at %v and must go by %v", fate, g.Expires, end)
	case mustGo && !fate.EndsFirst && (fate.RevokeAt.IsZero() || fate.RevokeAt.After(end)):
		t.Fatalf("%+v of what must go by %v: %+v", fate, end, g)
	case mustGo && usableAtEnd:
		t.Fatalf("usable after %v, fate %+v: %+v", end, fate, g)
	case atOnce && fate.RevokeAt.After(c.Now):
		t.Fatalf("%+v is not at once", fate)
	case !atOnce && !fate.RevokeAt.IsZero() && g.RevokeAt.IsZero() && fate.RevokeAt.Add(time.Second).Before(end):
		t.Fatalf("%+v cuts an overlap until %v short", fate, end)
	case harmless && fate != (plan.Fate{}) && fate.Cause != plan.CauseSurplus:
		t.Fatalf("%+v of what allows nothing more: %+v", fate, g)
	}
}

// judgeSurplus: every fate is the generation's own, whatever the others are, save for the oldest beyond the bound.
func judgeSurplus(t *testing.T, c plan.Change, generations []plan.Generation, fates []plan.Fate) {
	t.Helper()
	var kept, surplus []time.Time
	for i, g := range generations {
		switch own := c.Of(g); {
		case own.RevokeAt.IsZero() && fates[i].Cause == plan.CauseSurplus:
			surplus = append(surplus, g.Issued)
		case own != fates[i]:
			t.Fatalf("number %d got %+v, its own is %+v", i, fates[i], own)
		case own.RevokeAt.IsZero():
			kept = append(kept, g.Issued)
		}
	}
	switch {
	case len(kept) > plan.MaxRetired:
		t.Fatalf("%d are left", len(kept))
	case len(surplus) > 0 && len(kept) < plan.MaxRetired:
		t.Fatalf("only %d are left, yet %d too many", len(kept), len(surplus))
	case len(surplus) > 0 && slices.MaxFunc(surplus, time.Time.Compare).After(slices.MinFunc(kept, time.Time.Compare)):
		t.Fatal("an older one is left, a younger one must go")
	}
}

// world is every topic filter of at most three levels over a small alphabet, with the topic names that it matches. Names
// reach one level deeper and use a level that no filter spells, which tells any two filters apart.
type world struct {
	filters []topic.Filter
	names   int
	matches map[topic.Filter][]bool
}

func newWorld() world {
	names := sequences([]string{"a", "b", "other"}, 4)
	w := world{names: len(names), matches: map[topic.Filter][]bool{}}
	for _, levels := range sequences([]string{"a", "b", "+", "#"}, 3) {
		filter, err := topic.Parse(strings.Join(levels, "/"))
		if err != nil {
			continue // '#' before the last level
		}
		w.filters = append(w.filters, filter)
		for _, name := range names {
			w.matches[filter] = append(w.matches[filter], matches(levels, name))
		}
	}
	return w
}

// sequences returns every list of one to length words.
func sequences(words []string, length int) [][]string {
	var list [][]string
	last := [][]string{nil}
	for range length {
		var next [][]string
		for _, begin := range last {
			for _, word := range words {
				next = append(next, append(slices.Clone(begin), word))
			}
		}
		list, last = append(list, next...), next
	}
	return list
}

// matches is MQTT's definition, level by level.
func matches(filter, name []string) bool {
	switch {
	case len(filter) == 0:
		return len(name) == 0
	case filter[0] == "#":
		return true
	case len(name) == 0:
		return false
	}
	return (filter[0] == "+" || filter[0] == name[0]) && matches(filter[1:], name[1:])
}

// exceeds reports whether there is something to do with some topic that the scope allows and all of the wanted do not.
func (w world) exceeds(s token.Scope, wanted []token.Scope) bool {
	for _, action := range both {
		for name := range w.names {
			allows := func(s token.Scope) bool {
				return may(s, action) && slices.ContainsFunc(s.Topics, func(f topic.Filter) bool { return w.matches[f][name] })
			}
			if allows(s) && !slices.ContainsFunc(wanted, allows) {
				return true
			}
		}
	}
	return false
}

// coveredOneByOne reports whether one wanted filter alone matches what each of the scope's filters does.
func (w world) coveredOneByOne(s token.Scope, wanted []token.Scope) bool {
	for _, action := range both {
		for _, inner := range s.Topics {
			covers := func(outer topic.Filter) bool {
				for name, matched := range w.matches[inner] {
					if matched && !w.matches[outer][name] {
						return false
					}
				}
				return true
			}
			covered := func(s token.Scope) bool { return may(s, action) && slices.ContainsFunc(s.Topics, covers) }
			if may(s, action) && !slices.ContainsFunc(wanted, covered) {
				return false
			}
		}
	}
	return true
}

func may(s token.Scope, action token.Action) bool {
	return strings.Contains(string(s.Type), string(action)) // the types are called after what they allow
}

// dice makes changes and generations out of a seed.
type dice struct {
	*rand.Rand
	filters    []topic.Filter
	mostlyLeft bool // so that some sets outgrow the bound
}

func (d dice) change() plan.Change {
	c := plan.Change{
		Now: now.Add(d.moment(time.Second)), Client: "client",
		Overlap: []time.Duration{0, time.Second, 1500 * time.Millisecond, 5 * time.Minute, d.moment(time.Hour)}[d.IntN(5)],
	}
	if d.mostlyLeft {
		c.Wanted = []token.Scope{scope(token.PublishSubscribe, "#")}
		return c
	}
	for range d.IntN(4) {
		c.Wanted = append(c.Wanted, d.scope(d.filters))
	}
	if d.IntN(3) == 0 {
		c.Compromised = "old"
	}
	if d.IntN(4) == 0 {
		causes := []plan.Cause{plan.CauseHeld, plan.CauseReissued, plan.CauseDenied, plan.CauseSurplus, plan.CauseDeleted}
		c.All = causes[d.IntN(len(causes))]
	}
	return c
}

func (d dice) scope(filters []topic.Filter) token.Scope {
	kind := []token.Type{token.Publish, token.Subscribe, token.PublishSubscribe}[d.IntN(3)]
	var names []string
	for range 1 + d.IntN(3) {
		names = append(names, filters[d.IntN(len(filters))].String())
	}
	return scope(kind, names...)
}

// generation is alive; half of them take their topics from what is wanted.
func (d dice) generation(c plan.Change) plan.Generation {
	filters := d.filters
	if len(c.Wanted) > 0 && d.IntN(2) == 0 {
		filters = c.Wanted[d.IntN(len(c.Wanted))].Topics
	}
	g := plan.Generation{
		Scope: d.scope(filters), Client: "client", KeyID: []string{"key", "old", ""}[d.IntN(3)],
		Issued: now.Add(-d.moment(720 * time.Hour)).Truncate(time.Hour), // so that some were issued together
	}
	around := []time.Duration{c.Overlap, c.Overlap + 2*time.Second, time.Second, 720 * time.Hour}[d.IntN(4)]
	g.Expires = c.Now.Add(1 + d.moment(around))
	if d.IntN(10) == 0 {
		g.Client = "other"
	}
	if d.IntN(10) == 0 && !d.mostlyLeft {
		g.RevokeAt = now.Add(d.moment(20*time.Minute) - 10*time.Minute)
	}
	return g
}

// moment is a time of less than the bound, every other one in whole seconds.
func (d dice) moment(bound time.Duration) time.Duration {
	at := time.Duration(d.Int64N(int64(bound) + 1))
	if d.IntN(2) == 0 {
		return at.Truncate(time.Second)
	}
	return at
}
