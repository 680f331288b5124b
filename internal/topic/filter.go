// Package topic parses MQTT topic filters and answers which topics they match and which filters they cover.
//
// A filter that leaves this package is safe to place in a comma-joined list: that is how the token service takes
// topics, so a filter with a comma in it would buy a second topic. Parse refuses it, whatever checked before.
package topic

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxLength is the longest filter the service takes, in characters, parent topic included.
// Source: https://help.aliyun.com/document_detail/63620.html.
const MaxLength = 64

const (
	separator   = "/"
	singleLevel = "+"
	multiLevel  = "#"
)

// ErrInvalid is in the chain of every error that Parse returns.
var ErrInvalid = errors.New("invalid topic filter")

// Filter is a valid MQTT topic filter. The zero value is no filter: it matches and covers nothing.
// Filters are comparable with ==.
type Filter struct{ text string }

// Parse returns the filter that s spells, or an error that wraps ErrInvalid and says what to change.
func Parse(s string) (Filter, error) {
	if problem := problemWith(s); problem != "" {
		return Filter{}, fmt.Errorf("%w %q: %s", ErrInvalid, s, problem)
	}
	return Filter{text: s}, nil
}

// MustParse is Parse for filters that are written in the source.
func MustParse(s string) Filter {
	f, err := Parse(s)
	if err != nil {
		panic(err)
	}
	return f
}

func problemWith(s string) string {
	switch {
	case s == "":
		return "it is empty"
	case !utf8.ValidString(s):
		return "it is not valid UTF-8"
	case utf8.RuneCountInString(s) > MaxLength:
		return fmt.Sprintf("it is longer than %d characters", MaxLength)
	case strings.HasPrefix(s, "$"):
		return "topics that begin with $ belong to the broker"
	case strings.ContainsAny(s, ",|"):
		return "',' and '|' separate topics and tokens on the wire and cannot be part of one"
	case strings.ContainsFunc(s, isUnprintable):
		return "control characters and U+FFFD are not allowed"
	}
	return wildcardProblem(strings.Split(s, separator))
}

func wildcardProblem(levels []string) string {
	for i, level := range levels {
		switch {
		case strings.Contains(level, multiLevel) && (level != multiLevel || i != len(levels)-1):
			return "'#' must be the whole last level"
		case strings.Contains(level, singleLevel) && level != singleLevel:
			return "'+' must be a whole level"
		}
	}
	return ""
}

// isUnprintable also names U+FFFD: it is what broken UTF-8 decodes to, so two different inputs could share it.
func isUnprintable(r rune) bool {
	return unicode.IsControl(r) || r == utf8.RuneError
}

// String returns the filter as it was written.
func (f Filter) String() string { return f.text }

// Matches reports whether the filter matches a topic name by MQTT 3.1.1 section 4.7: "a/#" matches "a" too, and a
// wildcard in the first level does not match names that begin with "$".
func (f Filter) Matches(name string) bool {
	if f.text == "" || name == "" || strings.HasPrefix(name, "$") {
		return false
	}
	return covers(strings.Split(f.text, separator), strings.Split(name, separator), false)
}

// Covers reports whether f matches every topic name that other matches.
func (f Filter) Covers(other Filter) bool {
	if f.text == "" || other.text == "" {
		return false
	}
	inner := strings.Split(other.text, separator)
	if other.text == multiLevel {
		inner = []string{singleLevel, multiLevel} // "#" alone has no parent level to include, so the two are the same set
	}
	return covers(strings.Split(f.text, separator), inner, true)
}

// covers walks both level lists; with wildcards it reads inner as a filter, else as a topic name, in which '+' and
// '#' are ordinary characters.
func covers(outer, inner []string, wildcards bool) bool {
	for i, level := range outer {
		if level == multiLevel {
			return true // also with inner used up: "a/#" includes the parent level
		}
		switch {
		case i >= len(inner):
			return false
		case wildcards && inner[i] == multiLevel:
			return false // inner goes deeper than any outer without '#' here
		case level != singleLevel && level != inner[i]:
			return false
		}
	}
	return len(outer) == len(inner)
}
