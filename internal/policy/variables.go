package policy

import (
	"strings"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/topic"
)

// variables are the values that a rule's {name} stands for. An empty value is not set.
type variables map[string]string

// expand replaces every {name} in one pass: what a value brings in is not looked at again. It fails on a name that is
// not set or not known, on a lone brace, and on a value that could mean more than itself.
func (v variables) expand(text string) (string, bool) {
	var out strings.Builder
	for {
		literal, rest, found := strings.Cut(text, "{")
		if strings.Contains(literal, "}") {
			return "", false
		}
		out.WriteString(literal)
		if !found {
			return out.String(), true
		}
		name, after, closed := strings.Cut(rest, "}")
		if !closed || !isPlain(v[name]) {
			return "", false
		}
		out.WriteString(v[name])
		text = after
	}
}

// filter expands the text to a valid filter.
func (v variables) filter(text string) (topic.Filter, bool) {
	expanded, ok := v.expand(text)
	if !ok {
		return topic.Filter{}, false
	}
	filter, err := topic.Parse(expanded)
	return filter, err == nil
}

// isPlain accepts what names of namespaces, groups and devices are made of. The API refuses everything else; here it
// is refused again, because a '#', a '/', a ',' or a '*' in a name would widen the rule that it is put into.
func isPlain(value string) bool {
	plain := func(r rune) bool {
		return r == '-' || r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
	}
	return value != "" && !strings.ContainsFunc(value, func(r rune) bool { return !plain(r) })
}
