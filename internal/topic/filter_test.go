package topic_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/topic"
)

func TestParse(t *testing.T) {
	for sentence, tc := range map[string]struct {
		in   string
		want string // part of the problem; empty: accepted
	}{
		"a plain topic is a filter":                {in: "factory/line-a/press-07"},
		"a trailing # is a whole level":            {in: "factory/#"},
		"a + may stand in any level":               {in: "+/line-a/+/temp"},
		"empty levels are legal MQTT":              {in: "/a//b"},
		"64 characters fit":                        {in: strings.Repeat("x", 64)},
		"64 multi-byte characters fit":             {in: strings.Repeat("温", 64)},
		"65 characters do not":                     {in: strings.Repeat("x", 65), want: "longer than 64"},
		"nothing is not a filter":                  {in: "", want: "empty"},
		"a comma would buy a second topic":         {in: "a,b", want: "','"},
		"a pipe would end a token in the password": {in: "a|b", want: "'|'"},
		"a $ topic belongs to the broker":          {in: "$SYS/uploadToken", want: "begin with $"},
		"# inside a level is refused":              {in: "a/b#", want: "'#'"},
		"# before the last level is refused":       {in: "a/#/b", want: "'#'"},
		"+ inside a level is refused":              {in: "a/b+/c", want: "'+'"},
		"a line feed is refused":                   {in: "a\nb", want: "control"},
		"a NUL is refused":                         {in: "a\x00", want: "control"},
		"a C1 control character is refused":        {in: "a\u0085b", want: "control"},
		"broken UTF-8 is refused":                  {in: "a\xff", want: "UTF-8"},
		"the replacement character is refused":     {in: "a\ufffd", want: "U+FFFD"},
	} {
		t.Run(sentence, func(t *testing.T) {
			got, err := topic.Parse(tc.in)
			switch {
			case tc.want == "" && (err != nil || got.String() != tc.in):
				t.Errorf("Parse(%q) = %q, %v; want it accepted as it is", tc.in, got, err)
			case tc.want != "" && (!errors.Is(err, topic.ErrInvalid) || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("Parse(%q): %v; want ErrInvalid that mentions %q", tc.in, err, tc.want)
			}
		})
	}
}

func TestCoversAndMatches(t *testing.T) {
	for _, tc := range []struct {
		outer, inner string
		want         bool
	}{
		{"a/#", "a", true},
		{"a/#", "a/b/c", true},
		{"a/#", "a/#", true},
		{"a/#", "a/+/c", true},
		{"a/#", "ab", false},
		{"a/b/#", "a/+/c", false},
		{"a/+", "a/b", true},
		{"a/+", "a", false},
		{"a/+", "a/b/c", false},
		{"a/+", "a/#", false},
		{"a/b", "a/+", false},
		{"a/+/c", "a/+/c", true},
		{"#", "a", true},
		{"#", "+/b", true},
		{"+/#", "#", true},
		{"+/+/#", "#", false},
		{"a/+/#", "a/#", false},
		{"+", "/", false},
		{"+/+", "/", true},
		{"/+", "/", true},
		{"", "a", false},
		{"a", "", false},
	} {
		t.Run(tc.outer+" covers "+tc.inner, func(t *testing.T) {
			if got := filter(tc.outer).Covers(filter(tc.inner)); got != tc.want {
				t.Errorf("got %v, want %v", got, tc.want)
			}
			if strings.ContainsAny(tc.inner, "+#") {
				return
			}
			if got := filter(tc.outer).Matches(tc.inner); got != tc.want {
				t.Errorf("Matches: got %v, want %v", got, tc.want)
			}
		})
	}
}

// filter returns the zero filter for the empty string, so that tables can name it.
func filter(s string) topic.Filter {
	if s == "" {
		return topic.Filter{}
	}
	return topic.MustParse(s)
}

func TestMatchesNeverReachesBrokerTopics(t *testing.T) {
	for _, f := range []string{"#", "+/#", "+/uploadToken"} {
		if topic.MustParse(f).Matches("$SYS/uploadToken") {
			t.Errorf("%q matches a $SYS topic", f)
		}
	}
}

func TestMustParsePanicsOnNonsense(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	topic.MustParse("a,b")
}

// FuzzParse holds the one property everything else rests on: what Parse accepts is one topic on the wire.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"a", "a/#", "+/a", "a,b", "a|b", "$a", "a\xff", "a/#/b", " ", "a%2Cb"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := topic.Parse(s)
		if err != nil {
			if !errors.Is(err, topic.ErrInvalid) {
				t.Fatalf("error without ErrInvalid: %v", err)
			}
			return
		}
		if got.String() != s {
			t.Fatalf("Parse changed %q to %q", s, got)
		}
		if len(strings.Split(s, ",")) != 1 || strings.ContainsAny(s, "|\x00\r\n") || strings.HasPrefix(s, "$") {
			t.Fatalf("Parse accepted %q", s)
		}
		if !got.Covers(got) {
			t.Fatalf("%q does not cover itself", s)
		}
	})
}

// FuzzCovers compares Covers with brute force: over a small alphabet, outer covers inner exactly when every topic
// name that inner matches is matched by outer. Names reach one level deeper than the filters and use a level name
// that no filter spells, which is enough to tell any two filters apart.
func FuzzCovers(f *testing.F) {
	names := enumerate([]string{"a", "b", "", "other"}, 5)
	f.Add("a/#", "a/b")
	f.Add("+/b", "a/+")
	f.Add("#", "+/#")
	f.Add("+/#", "#")
	f.Fuzz(func(t *testing.T, left, right string) {
		outer, inner, ok := small(left, right)
		if !ok {
			t.Skip("not two small filters")
		}
		want := true
		for _, name := range names {
			if inner.Matches(name) && !outer.Matches(name) {
				want = false
				break
			}
		}
		if got := outer.Covers(inner); got != want {
			t.Fatalf("%q covers %q = %v, brute force says %v", outer, inner, got, want)
		}
	})
}

// small accepts filters that the brute force can decide: at most four levels of a, b, empty, + and #.
func small(texts ...string) (outer, inner topic.Filter, ok bool) {
	var parsed [2]topic.Filter
	for i, text := range texts {
		levels := strings.Split(text, "/")
		if len(levels) > 4 {
			return outer, inner, false
		}
		for _, level := range levels {
			if !strings.Contains("a b + #", level) || level == " " || len(level) > 1 {
				return outer, inner, false
			}
		}
		f, err := topic.Parse(text)
		if err != nil {
			return outer, inner, false
		}
		parsed[i] = f
	}
	return parsed[0], parsed[1], true
}

// enumerate returns every topic name of one to depth levels over the alphabet, less the empty name.
func enumerate(alphabet []string, depth int) []string {
	var all []string
	level := []string{}
	level = append(level, alphabet...)
	for range depth {
		for _, name := range level {
			if name != "" {
				all = append(all, name)
			}
		}
		var next []string
		for _, name := range level {
			for _, l := range alphabet {
				next = append(next, name+"/"+l)
			}
		}
		level = next
	}
	return all
}
