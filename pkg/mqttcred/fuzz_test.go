package mqttcred_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/mqtt-token-operator/mqtt-token-operator/pkg/mqttcred"
)

// Whatever the files hold: credentials or an error, the same each time, and no secret in print.
func FuzzLoad(f *testing.F) {
	for _, tokens := range []string{`[]`, `[{"type":"R","token":"$"}]`, `["$"]`, `{"$":`, `null`, `[ ]`, ``, `"$"`} {
		f.Add("R|$", tokens, `[]`, "2026-03-02T12:00:00Z")
	}
	f.Add("", `[{"issuedAt":"$"}]`, `[{"expiresAt":"x"}]`, "2026-03-02")
	f.Add("$\n$", `[]`, `[{"filter":1}]`, "9999-12-31T23:59:59+23:59")
	f.Fuzz(func(t *testing.T, password, tokens, permissions, expires string) {
		contents := files()
		contents["password"] = strings.ReplaceAll(password, "$", canary)
		contents["tokens.json"] = strings.ReplaceAll(tokens, "$", canary)
		contents["permissions.json"], contents["expires-at"] = permissions, expires
		dir := t.TempDir()
		write(t, dir, contents)
		got, err := mqttcred.Load(dir)
		again, errAgain := mqttcred.Load(dir)
		if diff := cmp.Diff(got, again); diff != "" || (err == nil) != (errAgain == nil) {
			t.Errorf("loaded twice, error %v and %v (-first +second):\n%s", err, errAgain, diff)
		}
		if diff := cmp.Diff(mqttcred.Credentials{}, got); err != nil && diff != "" {
			t.Errorf("credentials come with an error (-none +got):\n%s", diff)
		}
		if errors.Is(err, mqttcred.ErrWithdrawn) != (tokens == "[]") {
			t.Errorf("tokens %q lead to %v", tokens, err)
		}
		if err == nil && got.Password != contents["password"] {
			t.Error("the password is another one")
		}
		if strings.Contains(permissions+expires, canary) {
			return
		}
		if text := fmt.Sprintf("%v %+v %#v %v", got, got, got.Tokens, err); strings.Contains(text, canary) {
			t.Errorf("a secret is in %q", text)
		}
	})
}

// What is uploaded is what the newer credentials hold, token by token, and it does whenever only the tokens differ.
func FuzzUploads(f *testing.F) {
	f.Add("R", "r1+/==", "W", "w1<>&", true)
	f.Add("RW", "\u2028\"\\", "RW", "", false)
	f.Add("", "a|b", "R", "\x00", true)
	f.Fuzz(func(t *testing.T, typeOne, textOne, typeTwo, textTwo string, swapped bool) {
		if slices.ContainsFunc([]string{typeOne, textOne, typeTwo, textTwo}, func(s string) bool { return !utf8.ValidString(s) }) {
			t.Skip("no file of JSON holds it")
		}
		newer := credentials()
		newer.Tokens = []mqttcred.Token{{Type: typeOne, Token: textOne}, {Type: typeTwo, Token: textTwo}}
		used := credentials()
		used.Tokens = []mqttcred.Token{{Type: typeOne, Token: "old"}, {Type: typeTwo, Token: "old"}}
		if swapped {
			slices.Reverse(used.Tokens)
		}
		messages, possible := mqttcred.Uploads(used, newer)
		if !possible || len(messages) != len(newer.Tokens) {
			t.Fatalf("%d messages, possible: %v", len(messages), possible)
		}
		for i, message := range messages {
			var got map[string]string
			if err := json.Unmarshal(message, &got); err != nil {
				t.Fatal(err)
			}
			want := map[string]string{"type": newer.Tokens[i].Type, "token": newer.Tokens[i].Token}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("message %d (-want +got):\n%s", i, diff)
			}
		}
		for name, change := range map[string]func(*mqttcred.Credentials){
			"one token less":   func(c *mqttcred.Credentials) { c.Tokens = c.Tokens[:1] },
			"one token more":   func(c *mqttcred.Credentials) { c.Tokens = append(c.Tokens, c.Tokens[0]) },
			"another type":     func(c *mqttcred.Credentials) { c.Tokens[0].Type += "R" },
			"another username": func(c *mqttcred.Credentials) { c.Username += "1" },
		} {
			other := newer
			other.Tokens = slices.Clone(newer.Tokens)
			change(&other)
			if _, possible := mqttcred.Uploads(used, other); possible {
				t.Errorf("uploaded in spite of %s", name)
			}
		}
	})
}

// Whatever becomes of the folder: who follows it sees whole versions only, never an older one after a newer, and the last.
func FuzzSourceFollowsWhateverHappens(f *testing.F) {
	f.Add([]byte("vvvvvvvv"))
	f.Add([]byte("vwvbvwwbbv"))
	f.Add([]byte("wsbsvs"))
	f.Add([]byte("vsvsvs"))
	f.Fuzz(func(t *testing.T, script []byte) {
		if len(script) > 16 {
			t.Skip("long enough")
		}
		m := newMount(t, "W|0")
		m.lay(version(0))
		source := m.open()
		last := make(chan int, 2)
		for range cap(last) {
			go follow(t, source, len(script)+1, last)
		}
		for i, what := range script {
			switch what {
			case 'v': // a version
				m.lay(version(i + 1))
			case 'w': // taken back
				m.lay(map[string]string{"tokens.json": "[]", "password": ""})
			case 'b': // not what the operator writes
				m.lay(map[string]string{"expires-at": "never"})
			default: // let it be seen
				_, _ = source.Current() // what it says depends on how far it is
			}
		}
		m.lay(version(len(script) + 1))
		for range cap(last) {
			if got := <-last; got != len(script)+1 {
				t.Errorf("the last version seen is %d of %d", got, len(script)+1)
			}
		}
	})
}

func version(n int) map[string]string {
	text := strconv.Itoa(n)
	return map[string]string{
		"username": text, "password": "W|" + text, "host": text,
		"tokens.json": `[{"type":"W","token":"` + text + `"}]`,
	}
}

// follow sees one version after the other until one comes, and tells which it saw last.
func follow(t *testing.T, source *mqttcred.Source, until int, last chan<- int) {
	seen, current := -1, mqttcred.Credentials{}
	defer func() { last <- seen }()
	for ctx := within(t, 20*time.Second); seen < until; {
		newer, err := source.Newer(ctx, current)
		if err != nil {
			t.Errorf("after version %d: %v", seen, err)
			return
		}
		n, err := strconv.Atoi(newer.Username)
		whole := err == nil && newer.Password == "W|"+newer.Username && newer.Host == newer.Username && newer.Tokens[0].Token == newer.Username
		if !whole || n <= seen {
			t.Errorf("after version %d comes %v with username %q", seen, newer, newer.Username)
			return
		}
		seen, current = n, newer
	}
}
