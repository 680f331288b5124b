package token_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/go-logr/logr/funcr"
	"github.com/google/go-cmp/cmp"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/topic"
)

func TestValueNeverPrints(t *testing.T) {
	const canary = "canary-7f3a"
	v := token.NewValue(canary)
	nested := struct{ Key token.Value }{v}
	hidden := struct{ key token.Value }{v} // fmt cannot call methods on this one
	var logged strings.Builder
	log := funcr.NewJSON(func(line string) { logged.WriteString(line) }, funcr.Options{})
	log.Info("m", "value", v, "pointer", &v, "nested", nested)
	asJSON, err := json.Marshal(map[string]any{"v": v, "p": &v, "n": nested})
	if err != nil {
		t.Fatal(err)
	}
	printed := []string{logged.String(), string(asJSON)}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%10s"} {
		printed = append(printed, fmt.Sprintf(verb, v), fmt.Sprintf(verb, &v), fmt.Sprintf(verb, nested), fmt.Sprintf(verb, []any{v}),
			fmt.Sprintf(verb, hidden), fmt.Sprintf(verb, &hidden))
	}
	for _, text := range printed {
		if strings.Contains(text, canary) || strings.Contains(text, fmt.Sprintf("%x", canary)) {
			t.Errorf("leaks: %s", text)
		}
	}
	if v.Reveal() != canary || hidden.key != token.NewValue(canary) {
		t.Error("Reveal lost the text, or equal texts are not equal values")
	}
	if zero := token.NewValue(""); !zero.IsZero() || zero.Reveal() != "" || zero != (token.Value{}) {
		t.Error("no text is not the zero value")
	}
}

func TestFingerprintIsStableAndDiffersByKey(t *testing.T) {
	v := token.NewValue("secret")
	if v.Fingerprint("a") != token.NewValue("secret").Fingerprint("a") {
		t.Error("not stable")
	}
	if v.Fingerprint("a") == v.Fingerprint("b") {
		t.Error("two grants share a fingerprint")
	}
}

func TestNewScopeSortsAndDropsExactDuplicates(t *testing.T) {
	got, err := token.NewScope(token.Publish, topic.MustParse("b"), topic.MustParse("a/#"), topic.MustParse("b"), topic.MustParse("a"))
	if err != nil {
		t.Fatal(err)
	}
	want := token.Scope{Type: token.Publish, Topics: []topic.Filter{topic.MustParse("a"), topic.MustParse("a/#"), topic.MustParse("b")}}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b topic.Filter) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
}

func TestNewScopeRefuses(t *testing.T) {
	var many []topic.Filter
	for i := range token.MaxTopics + 1 {
		many = append(many, topic.MustParse("t/"+strconv.Itoa(i)))
	}
	for sentence, tc := range map[string]struct {
		kind   token.Type
		topics []topic.Filter
	}{
		"a scope without topics":    {kind: token.Publish},
		"more topics than fit":      {kind: token.Publish, topics: many},
		"a type that is not known":  {kind: "RW", topics: many[:1]},
		"the filter that is no one": {kind: token.Publish, topics: []topic.Filter{{}}},
	} {
		t.Run(sentence, func(t *testing.T) {
			if s, err := token.NewScope(tc.kind, tc.topics...); err == nil {
				t.Errorf("accepted: %v", s)
			}
		})
	}
	if _, err := token.NewScope(token.Publish, many[:token.MaxTopics]...); err != nil {
		t.Errorf("the bound itself: %v", err)
	}
}

func TestAllows(t *testing.T) {
	s, err := token.NewScope(token.Publish, topic.MustParse("a/#"))
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		action token.Action
		filter string
		want   bool
	}{
		{token.ActionPublish, "a/b", true},
		{token.ActionSubscribe, "a/b", false},
		{token.ActionPublish, "b", false},
	} {
		if got := s.Allows(tc.action, topic.MustParse(tc.filter)); got != tc.want {
			t.Errorf("%s %s = %v, want %v", tc.action, tc.filter, got, tc.want)
		}
	}
}

func TestScopeIDTellsScopesApart(t *testing.T) {
	scope := func(kind token.Type, names ...string) token.Scope {
		var filters []topic.Filter
		for _, n := range names {
			filters = append(filters, topic.MustParse(n))
		}
		s, err := token.NewScope(kind, filters...)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	r, w := scope(token.Subscribe, "a", "b"), scope(token.Publish, "a", "b")
	if token.ScopeID([]token.Scope{r, w}) != token.ScopeID([]token.Scope{w, r}) {
		t.Error("the order of scopes changes the id")
	}
	seen := map[string]string{}
	for name, scopes := range map[string][]token.Scope{
		"R": {r}, "W": {w}, "R+W": {r, w}, "R a": {scope(token.Subscribe, "a")},
		"R b": {scope(token.Subscribe, "b")}, "RW": {scope(token.PublishSubscribe, "a", "b")}, "none": nil,
	} {
		id := token.ScopeID(scopes)
		if other, clash := seen[id]; clash {
			t.Errorf("%s and %s share id %s", name, other, id)
		}
		seen[id] = name
	}
}

func TestErrorKeepsItsCauseAndItsKind(t *testing.T) {
	cause := errors.New("connection refused")
	err := fmt.Errorf("renewing: %w", &token.Error{Kind: token.KindInstance, Op: "Apply", Code: "Unreachable", RequestID: "r-1", Err: cause})
	if got := token.AsError(err); got.Kind != token.KindInstance || !errors.Is(err, cause) {
		t.Errorf("got %v", got)
	}
	if got := token.AsError(cause); got.Kind != token.KindUnavailable {
		t.Errorf("an unknown error is %v, want one that may pass", got.Kind)
	}
	for _, part := range []string{"Apply", "Unreachable", "Instance", "r-1", "connection refused"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not mention %q", err, part)
		}
	}
}
