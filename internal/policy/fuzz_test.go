package policy_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/policy"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/topic"
)

// FuzzCheck compares Check with an oracle that knows neither Covers nor the order of rules: it tries every topic name
// over a small alphabet.
func FuzzCheck(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0, 0, 0, 0, 2, 1, 1, 0, 0, 0, 3, 0, 1})
	f.Add([]byte("rules and requests out of any bytes"))
	f.Add([]byte{7, 3, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25})
	names := allNames([]string{"a", "b", "", "other"}, 4)
	f.Fuzz(func(t *testing.T, data []byte) {
		d := &dice{data: data}
		q := d.request()
		var rules []policy.Rule
		for range d.roll(4) {
			rules = append(rules, d.rule())
		}
		got := policy.Check(rules, q)
		if again := policy.Check(rules, q); !slices.Equal(got, again) {
			t.Fatalf("two answers: %v and %v", got, again)
		}
		if len(policy.Check(nil, q)) == 0 {
			t.Fatal("allowed without a rule")
		}
		if want := oracle(rules, q, names); want != (len(got) == 0) {
			t.Fatalf("oracle says allowed=%v, got %v\nrequest %+v\nrules %+v", want, got, q, rules)
		}
		if len(got) == 0 && len(policy.Check(append(rules, d.rule()), q)) > 0 {
			t.Fatal("one more rule took something away")
		}
		if slices.Reverse(rules); (len(policy.Check(rules, q)) == 0) != (len(got) == 0) {
			t.Fatal("the order of the rules matters")
		}
	})
}

// oracle says whether every action on every name that the request's filters match is allowed, filter by filter.
func oracle(rules []policy.Rule, q policy.Request, names []string) bool {
	applies := func(r policy.Rule) bool {
		if !r.AppliesToNamespace || q.GroupID == "" || !matchesOne(r.GroupIDs, q.GroupID, q, "{namespace}") {
			return false
		}
		if q.DeviceID == "" {
			return r.AllowGroupGrants
		}
		return len(r.DeviceIDs) == 0 || matchesOne(r.DeviceIDs, q.DeviceID, q, "{namespace}", "{groupID}")
	}
	rules = slices.DeleteFunc(slices.Clone(rules), func(r policy.Rule) bool { return !applies(r) })
	allowed := func(filter topic.Filter, action token.Action) bool {
		return slices.ContainsFunc(rules, func(r policy.Rule) bool {
			if r.MaxValidity != 0 && q.Validity > r.MaxValidity {
				return false
			}
			return slices.ContainsFunc(r.Topics, func(tr policy.TopicRule) bool {
				text, ok := fill(tr.Filter, q, "{namespace}", "{groupID}", "{deviceID}")
				rule, err := topic.Parse(text)
				return ok && err == nil && slices.Contains(tr.Actions, action) && matchesAll(rule, filter, names)
			})
		})
	}
	for _, p := range q.Topics {
		if len(p.Actions) == 0 {
			return false
		}
		for _, action := range p.Actions {
			if !allowed(p.Filter, action) {
				return false
			}
		}
	}
	return len(rules) > 0
}

func matchesAll(outer, inner topic.Filter, names []string) bool {
	return !slices.ContainsFunc(names, func(n string) bool { return inner.Matches(n) && !outer.Matches(n) })
}

func fill(text string, q policy.Request, known ...string) (string, bool) {
	value := map[string]string{"{namespace}": q.Namespace, "{groupID}": q.GroupID, "{deviceID}": q.DeviceID}
	var pairs []string
	for _, name := range known {
		if strings.Contains(text, name) && (value[name] == "" || strings.ContainsAny(value[name], "/+#*,{}")) {
			return "", false
		}
		pairs = append(pairs, name, value[name])
	}
	text = strings.NewReplacer(pairs...).Replace(text)
	return text, !strings.ContainsAny(text, "{}")
}

func matchesOne(patterns []string, text string, q policy.Request, known ...string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		pattern, ok := fill(pattern, q, known...)
		return ok && glob(pattern, text)
	})
}

// glob is the definition of '*', without regard to time.
func glob(pattern, text string) bool {
	if pattern == "" || text == "" {
		return strings.Trim(pattern, "*") == "" && text == ""
	}
	if pattern[0] == '*' {
		return glob(pattern[1:], text) || glob(pattern, text[1:])
	}
	return pattern[0] == text[0] && glob(pattern[1:], text[1:])
}

// dice makes rules and requests out of fuzz bytes.
type dice struct{ data []byte }

func (d *dice) roll(sides int) int {
	if len(d.data) == 0 {
		return 0
	}
	b := d.data[0]
	d.data = d.data[1:]
	return int(b) % sides
}

func (d *dice) pick(from ...string) string { return from[d.roll(len(from))] }

func (d *dice) actions() []token.Action {
	return [][]token.Action{both, publish, subscribe, nil}[d.roll(4)]
}

func (d *dice) patterns() []string {
	return [][]string{{"*"}, nil, {"{namespace}"}, {"a*"}, {"b", "*b"}, {"{groupID}*"}, {"a*b*"}, {"{x}", "a}"}}[d.roll(8)]
}

func (d *dice) rule() policy.Rule {
	r := policy.Rule{
		AppliesToNamespace: d.roll(8) != 7, GroupIDs: d.patterns(), DeviceIDs: d.patterns(), AllowGroupGrants: d.roll(2) == 1,
		MaxValidity: time.Duration(d.roll(3)) * time.Hour,
	}
	for range d.roll(4) {
		r.Topics = append(r.Topics, policy.TopicRule{
			Filter:  d.pick("a", "b", "a/#", "#", "+", "a/+", "+/b", "{namespace}/#", "{deviceID}", "{groupID}/{deviceID}", "{", "a,b", "{namespace},b", "+/#"),
			Actions: d.actions(),
		})
	}
	return r
}

func (d *dice) request() policy.Request {
	q := policy.Request{
		Namespace: d.pick("a", "b", "ab", "#", "{deviceID}"), GroupID: d.pick("a", "ab", "b", "", "+"), DeviceID: d.pick("a", "b", "", "a,b", "a/b", "*"),
		Validity: time.Duration(1+d.roll(3)) * time.Hour,
	}
	for range d.roll(4) {
		filter := topic.MustParse(d.pick("a", "b", "a/b", "a/#", "#", "+", "a/+", "+/b", "b/a", "+/#"))
		q.Topics = append(q.Topics, token.Permission{Filter: filter, Actions: d.actions()})
	}
	return q
}

func allNames(alphabet []string, depth int) []string {
	level := slices.Clone(alphabet)
	var all []string
	for range depth {
		all = append(all, level...)
		var next []string
		for _, name := range level {
			for _, l := range alphabet {
				next = append(next, name+"/"+l)
			}
		}
		level = next
	}
	return slices.DeleteFunc(all, func(n string) bool { return n == "" })
}
