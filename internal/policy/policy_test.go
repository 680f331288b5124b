package policy_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/policy"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/topic"
)

var (
	publish   = []token.Action{token.ActionPublish}
	subscribe = []token.Action{token.ActionSubscribe}
	both      = []token.Action{token.ActionPublish, token.ActionSubscribe}
)

// rule allows the filters, both ways, to every client of GID_line in an applicable namespace; mods change that.
func rule(filters []string, mods ...func(*policy.Rule)) policy.Rule {
	r := policy.Rule{AppliesToNamespace: true, GroupIDs: []string{"GID_line"}}
	for _, f := range filters {
		r.Topics = append(r.Topics, policy.TopicRule{Filter: f, Actions: both})
	}
	for _, mod := range mods {
		mod(&r)
	}
	return r
}

func groups(patterns ...string) func(*policy.Rule) {
	return func(r *policy.Rule) { r.GroupIDs = patterns }
}

func devices(patterns ...string) func(*policy.Rule) {
	return func(r *policy.Rule) { r.DeviceIDs = patterns }
}

func only(actions []token.Action) func(*policy.Rule) {
	return func(r *policy.Rule) {
		for i := range r.Topics {
			r.Topics[i].Actions = actions
		}
	}
}

func atMost(d time.Duration) func(*policy.Rule) { return func(r *policy.Rule) { r.MaxValidity = d } }
func elsewhere(r *policy.Rule)                  { r.AppliesToNamespace = false }
func groupGrants(r *policy.Rule)                { r.AllowGroupGrants = true }

// request is line-a's press in GID_line, for a day, with both actions on the filters; mods change that.
func request(filters []string, mods ...func(*policy.Request)) policy.Request {
	q := policy.Request{Namespace: "line-a", GroupID: "GID_line", DeviceID: "press", Validity: 24 * time.Hour}
	for _, f := range filters {
		q.Topics = append(q.Topics, token.Permission{Filter: topic.MustParse(f), Actions: both})
	}
	for _, mod := range mods {
		mod(&q)
	}
	return q
}

func wanting(actions []token.Action) func(*policy.Request) {
	return func(q *policy.Request) {
		for i := range q.Topics {
			q.Topics[i].Actions = actions
		}
	}
}

func namespace(name string) func(*policy.Request) {
	return func(q *policy.Request) { q.Namespace = name }
}

func group(id string) func(*policy.Request) { return func(q *policy.Request) { q.GroupID = id } }

func device(id string) func(*policy.Request) { return func(q *policy.Request) { q.DeviceID = id } }

func lasting(d time.Duration) func(*policy.Request) {
	return func(q *policy.Request) { q.Validity = d }
}

func TestCheck(t *testing.T) {
	type rules = []policy.Rule
	type filters = []string
	for sentence, tc := range map[string]struct {
		rules   rules
		request policy.Request
		want    []policy.Reason
	}{
		"no rules deny":               {request: request(filters{"a"}), want: []policy.Reason{policy.NamespaceNotAllowed}},
		"the zero rule denies":        {rules: rules{{}}, request: request(filters{"a"}), want: []policy.Reason{policy.NamespaceNotAllowed}},
		"the zero request is denied":  {rules: rules{rule(filters{"#"}, groups("*"), groupGrants)}, want: []policy.Reason{policy.ClientNotAllowed}},
		"a rule for the same filter":  {rules: rules{rule(filters{"a"})}, request: request(filters{"a"})},
		"a rule for another filter":   {rules: rules{rule(filters{"a"})}, request: request(filters{"b"}), want: []policy.Reason{policy.TopicNotAllowed}},
		"each topic is judged":        {rules: rules{rule(filters{"a"})}, request: request(filters{"b", "a", "c"}), want: []policy.Reason{policy.TopicNotAllowed, policy.TopicNotAllowed}},
		"a rule for other namespaces": {rules: rules{rule(filters{"a"}, elsewhere)}, request: request(filters{"a"}), want: []policy.Reason{policy.NamespaceNotAllowed}},
		"a rule for other namespaces lends no topic": {
			rules: rules{rule(filters{"a"}, elsewhere), rule(filters{"b"})}, request: request(filters{"a"}), want: []policy.Reason{policy.TopicNotAllowed},
		},
		"a rule for other groups lends no topic": {
			rules: rules{rule(filters{"a"}, groups("GID_x")), rule(filters{"b"})}, request: request(filters{"a"}), want: []policy.Reason{policy.TopicNotAllowed},
		},

		"a wildcard covers what is below":          {rules: rules{rule(filters{"a/#"})}, request: request(filters{"a/b/c", "a/+/c", "a/b/#"})},
		"a wildcard covers its parent":             {rules: rules{rule(filters{"a/#"})}, request: request(filters{"a"})},
		"a wildcard does not cover a longer name":  {rules: rules{rule(filters{"a/#"})}, request: request(filters{"ab"}), want: []policy.Reason{policy.TopicNotAllowed}},
		"a wanted + needs a wildcard in the rule":  {rules: rules{rule(filters{"a/b", "a/c"})}, request: request(filters{"a/+"}), want: []policy.Reason{policy.TopicNotAllowed}},
		"a wanted # is more than a +":              {rules: rules{rule(filters{"a/+"})}, request: request(filters{"a/#"}), want: []policy.Reason{policy.TopicNotAllowed}},
		"a wanted # is covered by the same #":      {rules: rules{rule(filters{"a/#"})}, request: request(filters{"a/#"})},
		"several filters do not add up to another": {rules: rules{rule(filters{"a", "a/+/#"})}, request: request(filters{"a/#"}), want: []policy.Reason{policy.TopicNotAllowed}},

		"an action that is not allowed":   {rules: rules{rule(filters{"a"}, only(publish))}, request: request(filters{"a"}, wanting(subscribe)), want: []policy.Reason{policy.TopicNotAllowed}},
		"one of two actions is not":       {rules: rules{rule(filters{"a"}, only(publish))}, request: request(filters{"a"}), want: []policy.Reason{policy.TopicNotAllowed}},
		"two rules give one action each":  {rules: rules{rule(filters{"a"}, only(publish)), rule(filters{"a/#"}, only(subscribe))}, request: request(filters{"a"})},
		"a topic without an action":       {rules: rules{rule(filters{"a"})}, request: request(filters{"a"}, wanting(nil)), want: []policy.Reason{policy.TopicNotAllowed}},
		"an unknown action, even if said": {rules: rules{rule(filters{"a"}, only([]token.Action{"Own"}))}, request: request(filters{"a"}, wanting([]token.Action{"Own"})), want: []policy.Reason{policy.TopicNotAllowed}},
		"the filter that is none":         {rules: rules{rule(filters{"#"})}, request: policy.Request{Namespace: "n", GroupID: "GID_line", DeviceID: "d", Topics: []token.Permission{{Actions: both}}}, want: []policy.Reason{policy.TopicNotAllowed}},

		"a group by pattern":                       {rules: rules{rule(filters{"a"}, groups("GID_l*e"))}, request: request(filters{"a"})},
		"a group by the second pattern":            {rules: rules{rule(filters{"a"}, groups("x", "*"))}, request: request(filters{"a"})},
		"a group that no pattern matches":          {rules: rules{rule(filters{"a"}, groups("GID_lin", "GID_line_*"))}, request: request(filters{"a"}), want: []policy.Reason{policy.ClientNotAllowed}},
		"a rule without groups matches none":       {rules: rules{rule(filters{"a"}, groups())}, request: request(filters{"a"}), want: []policy.Reason{policy.ClientNotAllowed}},
		"a group named like the namespace":         {rules: rules{rule(filters{"a"}, groups("GID_{namespace}"))}, request: request(filters{"a"}, group("GID_line-a"))},
		"a group named like another namespace":     {rules: rules{rule(filters{"a"}, groups("GID_{namespace}"))}, request: request(filters{"a"}, group("GID_line-b")), want: []policy.Reason{policy.ClientNotAllowed}},
		"a group pattern cannot speak of itself":   {rules: rules{rule(filters{"a"}, groups("{groupID}", "{deviceID}"))}, request: request(filters{"a"}), want: []policy.Reason{policy.ClientNotAllowed}},
		"a group of a namespace that it begins":    {rules: rules{rule(filters{"a"}, groups("GID_{namespace}_*"))}, request: request(filters{"a"}, namespace("a"), group("GID_ab_x")), want: []policy.Reason{policy.ClientNotAllowed}},
		"a device by pattern":                      {rules: rules{rule(filters{"a"}, devices("pr*"))}, request: request(filters{"a"})},
		"a device that no pattern matches":         {rules: rules{rule(filters{"a"}, devices("pr"))}, request: request(filters{"a"}), want: []policy.Reason{policy.ClientNotAllowed}},
		"a device by namespace and group":          {rules: rules{rule(filters{"a"}, devices("{namespace}-{groupID}-*"))}, request: request(filters{"a"}, device("line-a-GID_line-7"))},
		"a device pattern cannot speak of itself":  {rules: rules{rule(filters{"a"}, devices("{deviceID}"))}, request: request(filters{"a"}), want: []policy.Reason{policy.ClientNotAllowed}},
		"a * in the namespace is no wildcard":      {rules: rules{rule(filters{"a"}, devices("{namespace}-x"))}, request: request(filters{"a"}, namespace("*"), device("line-x")), want: []policy.Reason{policy.ClientNotAllowed}},
		"no device needs allowGroupGrants":         {rules: rules{rule(filters{"a"})}, request: request(filters{"a"}, device("")), want: []policy.Reason{policy.ClientNotAllowed}},
		"no device and * as device pattern":        {rules: rules{rule(filters{"a"}, devices("*"))}, request: request(filters{"a"}, device("")), want: []policy.Reason{policy.ClientNotAllowed}},
		"no device where group grants are allowed": {rules: rules{rule(filters{"a"}, devices("x"), groupGrants)}, request: request(filters{"a"}, device(""))},
		"group grants open no other device":        {rules: rules{rule(filters{"a"}, devices("x"), groupGrants)}, request: request(filters{"a"}), want: []policy.Reason{policy.ClientNotAllowed}},

		"variables stand for the grant's":            {rules: rules{rule(filters{"{namespace}/{groupID}/{deviceID}/#"})}, request: request(filters{"line-a/GID_line/press/t"})},
		"a variable twice":                           {rules: rules{rule(filters{"{namespace}/{namespace}"})}, request: request(filters{"line-a/line-a"})},
		"a variable within a level":                  {rules: rules{rule(filters{"x-{namespace}-y"})}, request: request(filters{"x-line-a-y"})},
		"another namespace's topics":                 {rules: rules{rule(filters{"f/{namespace}/#"})}, request: request(filters{"f/line-b/x"}), want: []policy.Reason{policy.TopicNotAllowed}},
		"a namespace that begins another's name":     {rules: rules{rule(filters{"f/{namespace}/#"})}, request: request(filters{"f/ab/x"}, namespace("a")), want: []policy.Reason{policy.TopicNotAllowed}},
		"a variable that the grant does not set":     {rules: rules{rule(filters{"f/{deviceID}"}, groupGrants)}, request: request(filters{"f/press"}, device("")), want: []policy.Reason{policy.TopicNotAllowed}},
		"a variable that nobody knows":               {rules: rules{rule(filters{"f/{node}"})}, request: request(filters{"f/{node}"}), want: []policy.Reason{policy.TopicNotAllowed}},
		"a variable without a name":                  {rules: rules{rule(filters{"f/{}"})}, request: request(filters{"f/{}"}), want: []policy.Reason{policy.TopicNotAllowed}},
		"braces cannot be escaped":                   {rules: rules{rule(filters{`f/\{x\}`, "f/{{namespace}}"})}, request: request(filters{`f/\{x\}`, "f/{line-a}"}), want: []policy.Reason{policy.TopicNotAllowed, policy.TopicNotAllowed}},
		"a lone brace never matches":                 {rules: rules{rule(filters{"f/{namespace", "f/x}"})}, request: request(filters{"f/{namespace", "f/x}"}), want: []policy.Reason{policy.TopicNotAllowed, policy.TopicNotAllowed}},
		"a value is not expanded again":              {rules: rules{rule(filters{"f/{deviceID}"})}, request: request(filters{"f/line-a"}, device("{namespace}")), want: []policy.Reason{policy.TopicNotAllowed}},
		"a comma in a device id buys no topic":       {rules: rules{rule(filters{"f/{deviceID}/t", "f/{deviceID}"})}, request: request(filters{"f/press", "secret"}, device("press,secret")), want: []policy.Reason{policy.TopicNotAllowed, policy.TopicNotAllowed}},
		"a # in a device id opens no subtree":        {rules: rules{rule(filters{"f/{deviceID}"})}, request: request(filters{"f/x"}, device("#")), want: []policy.Reason{policy.TopicNotAllowed}},
		"a + in a namespace opens no level":          {rules: rules{rule(filters{"f/{namespace}/t"})}, request: request(filters{"f/x/t"}, namespace("+")), want: []policy.Reason{policy.TopicNotAllowed}},
		"a / in a device id adds no level":           {rules: rules{rule(filters{"f/{deviceID}/t"})}, request: request(filters{"f/a/b/t"}, device("a/b")), want: []policy.Reason{policy.TopicNotAllowed}},
		"a $ in a group id reaches no broker topic":  {rules: rules{rule(filters{"{groupID}/x"}, groups("*"))}, request: request(filters{"a"}, group("$SYS")), want: []policy.Reason{policy.TopicNotAllowed}},
		"a rule that is too long when spelled out":   {rules: rules{rule(filters{"{namespace}/{namespace}/#"})}, request: request(filters{"x"}, namespace(strings.Repeat("x", 63))), want: []policy.Reason{policy.TopicNotAllowed}},
		"a value beside the rule that needs it":      {rules: rules{rule(filters{"f/{deviceID}", "plain"})}, request: request(filters{"plain"}, device("a/b"))},
		"a comma in the rule itself":                 {rules: rules{rule(filters{"a,b"})}, request: request(filters{"a"}), want: []policy.Reason{policy.TopicNotAllowed}},
		"a literal star in a topic is no wildcard":   {rules: rules{rule(filters{"f/*"})}, request: request(filters{"f/x"}), want: []policy.Reason{policy.TopicNotAllowed}},
		"a percent escape is a text like any other":  {rules: rules{rule(filters{"f/a"})}, request: request(filters{"f/%61"}), want: []policy.Reason{policy.TopicNotAllowed}},
		"upper case is not lower case":               {rules: rules{rule(filters{"f/a"})}, request: request(filters{"F/a"}), want: []policy.Reason{policy.TopicNotAllowed}},
		"the bound itself":                           {rules: rules{rule(filters{"a"}, atMost(24*time.Hour))}, request: request(filters{"a"})},
		"more than the bound":                        {rules: rules{rule(filters{"a"}, atMost(24*time.Hour))}, request: request(filters{"a"}, lasting(24*time.Hour+1)), want: []policy.Reason{policy.ValidityTooLong}},
		"no bound":                                   {rules: rules{rule(filters{"a"})}, request: request(filters{"a"}, lasting(1<<62))},
		"a bound below zero bounds everything":       {rules: rules{rule(filters{"a"}, atMost(-1))}, request: request(filters{"a"}), want: []policy.Reason{policy.ValidityTooLong}},
		"the smallest bound of the rules used":       {rules: rules{rule(filters{"a"}, atMost(48*time.Hour)), rule(filters{"b"}, atMost(time.Hour))}, request: request(filters{"a", "b"}), want: []policy.Reason{policy.ValidityTooLong}},
		"a bound of a rule that is not used":         {rules: rules{rule(filters{"a"}, atMost(48*time.Hour)), rule(filters{"b"}, atMost(time.Hour))}, request: request(filters{"a"})},
		"of two that cover, the one that allows":     {rules: rules{rule(filters{"a"}, atMost(time.Hour)), rule(filters{"#"}, atMost(48*time.Hour))}, request: request(filters{"a"})},
		"of two that cover, the one without a bound": {rules: rules{rule(filters{"#"}), rule(filters{"a"}, atMost(time.Hour))}, request: request(filters{"a"})},
		"the bound of one action counts":             {rules: rules{rule(filters{"a"}, only(publish)), rule(filters{"a"}, only(subscribe), atMost(time.Hour))}, request: request(filters{"a"}), want: []policy.Reason{policy.ValidityTooLong}},
		"topics and validity are reported together":  {rules: rules{rule(filters{"a"}, atMost(time.Hour))}, request: request(filters{"a", "b"}), want: []policy.Reason{policy.TopicNotAllowed, policy.ValidityTooLong}},
	} {
		t.Run(sentence, func(t *testing.T) {
			var got []policy.Reason
			for _, v := range policy.Check(tc.rules, tc.request) {
				got = append(got, v.Reason)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestMessagesSayWhatToDoAndGiveNothingAway(t *testing.T) {
	hidden := rule([]string{"hidden/#"}, groups("GID_hidden"), devices("hidden-*"), atMost(7*time.Hour))
	for sentence, tc := range map[string]struct {
		rules   []policy.Rule
		request policy.Request
		want    policy.Violation
	}{
		"namespace": {
			rules:   []policy.Rule{rule([]string{"hidden"}, elsewhere)},
			request: request([]string{"a"}),
			want: policy.Violation{
				Reason: policy.NamespaceNotAllowed, Message: `no access rule of the instance applies to namespace "line-a": ask the platform team for one`,
			},
		},
		"client": {
			rules:   []policy.Rule{hidden},
			request: request([]string{"a"}),
			want: policy.Violation{
				Reason: policy.ClientNotAllowed, Message: `no access rule allows group "GID_line" with device "press": correct the client, or ask the platform team for a rule`,
			},
		},
		"whole group": {
			rules:   []policy.Rule{hidden},
			request: request([]string{"a"}, device("")),
			want: policy.Violation{
				Reason:  policy.ClientNotAllowed,
				Message: `no access rule allows a grant for every client of group "GID_line": set a device id, or ask the platform team for a rule with allowGroupGrants`,
			},
		},
		"topic": {
			rules:   []policy.Rule{hidden, rule([]string{"hidden"})},
			request: request([]string{"a/#"}),
			want: policy.Violation{
				Reason:  policy.TopicNotAllowed,
				Message: `no access rule allows this client to Publish or Subscribe on "a/#": remove the topic or the action, or ask the platform team for a rule`,
			},
		},
		"one action of a topic": {
			rules:   []policy.Rule{hidden, rule([]string{"a"}, only(subscribe))},
			request: request([]string{"a"}),
			want: policy.Violation{
				Reason:  policy.TopicNotAllowed,
				Message: `no access rule allows this client to Publish on "a": remove the topic or the action, or ask the platform team for a rule`,
			},
		},
		"no action": {
			rules:   []policy.Rule{rule([]string{"a"})},
			request: request([]string{"a"}, wanting(nil)),
			want:    policy.Violation{Reason: policy.TopicNotAllowed, Message: `topic "a" asks for no action: name Publish, Subscribe or both`},
		},
		"validity in hours": {
			rules:   []policy.Rule{hidden, rule([]string{"a"}, atMost(10*time.Hour))},
			request: request([]string{"a"}),
			want: policy.Violation{
				Reason: policy.ValidityTooLong, Message: `a validity of 24h is longer than the 10h that the access rules allow for these topics: shorten it`,
			},
		},
		"validity in parts": {
			rules:   []policy.Rule{rule([]string{"a"}, atMost(20*time.Minute))},
			request: request([]string{"a"}, lasting(90*time.Minute+10*time.Second)),
			want: policy.Violation{
				Reason: policy.ValidityTooLong, Message: `a validity of 1h30m10s is longer than the 20m that the access rules allow for these topics: shorten it`,
			},
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			got := policy.Check(tc.rules, tc.request)
			if diff := cmp.Diff([]policy.Violation{tc.want}, got); diff != "" {
				t.Error(diff)
			}
			for _, v := range got {
				if strings.Contains(v.Message, "hidden") {
					t.Errorf("gives another rule away: %s", v.Message)
				}
			}
		})
	}
}

func TestPatterns(t *testing.T) {
	for _, tc := range []struct {
		pattern, text string
		want          bool
	}{
		{"a", "a", true},
		{"a", "A", false},
		{"*", "a", true},
		{"**", "a", true},
		{"a*", "a", true},
		{"*a", "a", true},
		{"a*a", "a", false},
		{"a*a", "aa", true},
		{"a*b*c", "abc", true},
		{"a*b*c", "a-b-b-c", true},
		{"a*b*c", "acb", false},
		{"*ab*ab*", "abab", true},
		{"*ab*ab*", "aab", false},
		{"a*b*b", "ab", false},
		{"a.c", "abc", false},
		{"[a]", "a", false},
		{"?", "a", false},
		{`\*`, "a", false},
		{"", "a", false},
	} {
		t.Run(tc.pattern+" on "+tc.text, func(t *testing.T) {
			got := policy.Check([]policy.Rule{rule([]string{"t"}, groups(tc.pattern))}, request([]string{"t"}, group(tc.text))) == nil
			if got != tc.want {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
}

// TestHostilePattern would not end with a matcher that goes back.
func TestHostilePattern(t *testing.T) {
	hostile := rule([]string{"t"}, groups(strings.Repeat("a*", 60)+"b"))
	if got := policy.Check([]policy.Rule{hostile}, request([]string{"t"}, group(strings.Repeat("a", 100_000)))); got == nil {
		t.Error("allowed")
	}
}
