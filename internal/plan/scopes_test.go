package plan_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/plan"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/topic"
)

var (
	publish   = []token.Action{token.ActionPublish}
	subscribe = []token.Action{token.ActionSubscribe}
	both      = []token.Action{token.ActionSubscribe, token.ActionPublish}
)

// want makes n permissions for distinct topics that begin with the name.
func want(name string, n int, actions []token.Action) []token.Permission {
	var list []token.Permission
	for i := range n {
		list = append(list, token.Permission{Filter: topic.MustParse(fmt.Sprint(name, "/", i)), Actions: actions})
	}
	return list
}

func TestScopes(t *testing.T) {
	for sentence, tc := range map[string]struct {
		publish, subscribe, both int
		want                     map[token.Type]int
		wantErr                  bool
	}{
		"nothing wanted is a mistake":                {wantErr: true},
		"publish only":                               {publish: 2, want: map[token.Type]int{token.Publish: 2}},
		"subscribe only":                             {subscribe: 2, want: map[token.Type]int{token.Subscribe: 2}},
		"all topics both ways make one token":        {both: 100, want: map[token.Type]int{token.PublishSubscribe: 100}},
		"one of each kind folds into two":            {publish: 1, subscribe: 1, both: 1, want: map[token.Type]int{token.Publish: 2, token.Subscribe: 2}},
		"two-way and publish fold to the bound":      {publish: 40, both: 60, want: map[token.Type]int{token.Publish: 100, token.Subscribe: 60}},
		"over the bound they stay apart":             {publish: 41, both: 60, want: map[token.Type]int{token.Publish: 41, token.PublishSubscribe: 60}},
		"over it on the other side they do so too":   {subscribe: 41, both: 60, want: map[token.Type]int{token.Subscribe: 41, token.PublishSubscribe: 60}},
		"three tokens carry 300 topics":              {publish: 100, subscribe: 100, both: 100, want: map[token.Type]int{token.Publish: 100, token.Subscribe: 100, token.PublishSubscribe: 100}},
		"101 topics to publish are too many":         {publish: 101, wantErr: true},
		"101 topics to subscribe to are too many":    {subscribe: 101, both: 1, wantErr: true},
		"101 topics both ways are too many":          {both: 101, wantErr: true},
		"101 topics both ways beside one more, also": {publish: 1, both: 101, wantErr: true},
	} {
		t.Run(sentence, func(t *testing.T) {
			wanted := append(append(want("w", tc.publish, publish), want("r", tc.subscribe, subscribe)...), want("rw", tc.both, both)...)
			scopes, err := plan.Scopes(wanted)
			if (err != nil) != tc.wantErr {
				t.Fatalf("err = %v, want one: %v", err, tc.wantErr)
			}
			var got map[token.Type]int
			for _, s := range scopes {
				if got == nil {
					got = map[token.Type]int{}
				}
				got[s.Type] += len(s.Topics)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestScopesOfATopicNamedTwice(t *testing.T) {
	a := topic.MustParse("a")
	got, err := plan.Scopes([]token.Permission{{Filter: a, Actions: publish}, {Filter: a, Actions: subscribe}, {Filter: a, Actions: publish}})
	if err != nil {
		t.Fatal(err)
	}
	if token.ScopeID(got) != token.ScopeID([]token.Scope{scope(token.PublishSubscribe, "a")}) {
		t.Errorf("got %v, want one token for both", got)
	}
}

func TestScopesRefusesWhatItDoesNotUnderstand(t *testing.T) {
	for sentence, p := range map[string]token.Permission{
		"no action":                  {Filter: topic.MustParse("a")},
		"an unknown action":          {Filter: topic.MustParse("a"), Actions: []token.Action{"Own"}},
		"an unknown one beside both": {Filter: topic.MustParse("a"), Actions: append([]token.Action{"Own"}, both...)},
		"the filter that is none":    {Actions: publish},
	} {
		t.Run(sentence, func(t *testing.T) {
			if got, err := plan.Scopes([]token.Permission{p}); err == nil {
				t.Errorf("got %v", got)
			}
		})
	}
}

// FuzzScopes: each byte is one topic of six copies of 32, wanted for one action or both.
func FuzzScopes(f *testing.F) {
	f.Add([]byte{0, 1, 2})
	f.Add([]byte{2, 2, 2})
	f.Add([]byte("any bytes at all make a list of topics"))
	f.Fuzz(func(t *testing.T, data []byte) {
		type key struct {
			action token.Action
			filter topic.Filter
		}
		var wanted []token.Permission
		permissions := map[key]bool{}
		for _, b := range data {
			p := token.Permission{Actions: [][]token.Action{publish, subscribe, both}[int(b)%3]}
			for copies := range 6 { // so that a few bytes reach the bound of a token
				p.Filter = topic.MustParse(fmt.Sprintf("t/%d/%d", b/3%32, copies))
				wanted = append(wanted, p)
				for _, action := range p.Actions {
					permissions[key{action, p.Filter}] = true
				}
			}
		}
		scopes, err := plan.Scopes(wanted)
		count := map[token.Type]int{}
		for k := range permissions {
			switch other := (key{token.ActionPublish, k.filter}); {
			case k.action == token.ActionPublish && permissions[key{token.ActionSubscribe, k.filter}]:
				count[token.PublishSubscribe]++
			case k.action == token.ActionPublish:
				count[token.Publish]++
			case !permissions[other]:
				count[token.Subscribe]++
			}
		}
		if err != nil {
			if len(wanted) > 0 && max(count[token.Publish], count[token.Subscribe], count[token.PublishSubscribe]) <= token.MaxTopics {
				t.Fatalf("%v: %v", count, err)
			}
			return
		}
		got := map[key]bool{}
		types := map[token.Type]bool{}
		for _, s := range scopes {
			if types[s.Type] || len(s.Topics) > token.MaxTopics {
				t.Fatalf("second token of a type, or too many topics: %v", s)
			}
			types[s.Type] = true
			for _, action := range s.Type.Actions() {
				for _, filter := range s.Topics {
					got[key{action, filter}] = true
				}
			}
		}
		if diff := cmp.Diff(len(permissions), len(got)); diff != "" {
			t.Fatal(diff)
		}
		for k := range permissions {
			if !got[k] {
				t.Fatalf("lost %v", k)
			}
		}
		if best := fewest(count); len(scopes) > best {
			t.Fatalf("%d tokens for %v, %d are enough", len(scopes), count, best)
		}
	})
}

// fewest tries every set of token types and every number of two-way topics that go into the two-way token; the others
// go into both of the one-way tokens.
func fewest(count map[token.Type]int) int {
	best := 4
	for together := range count[token.PublishSubscribe] + 1 {
		apart := count[token.PublishSubscribe] - together
		tokens := 0
		for _, n := range []int{together, count[token.Publish] + apart, count[token.Subscribe] + apart} {
			switch {
			case n > token.MaxTopics:
				tokens += 4
			case n > 0:
				tokens++
			}
		}
		best = min(best, tokens)
	}
	return best
}
