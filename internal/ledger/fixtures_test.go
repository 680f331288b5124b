package ledger_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/ledger"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/topic"
)

const (
	grantUID = "5d0c0f5e-9a5c-4b1e-8f0b-0c5a3f1f2d11"
	dataKey  = "entries.json"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// revoke is a token that must go in so many minutes, and lives for a day.
func revoke(text string, why ledger.Why, in int) ledger.Entry {
	return ledger.Entry{
		Value: token.NewValue(text), Client: "post-cn-1/GID_line_a@@@press-07", Instance: "mqtt-system/factory",
		Expires: noon.Add(24 * time.Hour), RevokeAt: noon.Add(time.Duration(in) * time.Minute), Why: why,
	}
}

func scope(tb testing.TB, filters ...string) token.Scope {
	tb.Helper()
	var topics []topic.Filter
	for _, text := range filters {
		topics = append(topics, topic.MustParse(text))
	}
	made, err := token.NewScope(token.Publish, topics...)
	if err != nil {
		tb.Fatal(err)
	}
	return made
}

func page(tb testing.TB, entries ...ledger.Entry) ledger.Page {
	tb.Helper()
	p, err := ledger.Page{Grant: "line-a/press-07", GrantUID: grantUID}.Add(entries, noon)
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

func render(tb testing.TB, p ledger.Page) *corev1.Secret {
	tb.Helper()
	secret, err := p.Render("mqtt-token-system")
	if err != nil {
		tb.Fatal(err)
	}
	return secret
}

func read(tb testing.TB, secret *corev1.Secret) ledger.Page {
	tb.Helper()
	p, err := ledger.Read(secret)
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

// told is a page in words, since a difference between tokens does not print.
func told(p ledger.Page) []string {
	var lines []string
	for _, e := range p.Entries {
		lines = append(lines, fmt.Sprint(e.Value.Reveal(), " ", e.Why, " ", e.RevokeAt.Sub(noon)))
	}
	for _, l := range p.Lost {
		lines = append(lines, fmt.Sprint("lost ", l.Why, " ", l.Expires.Sub(noon)))
	}
	for _, r := range p.Rest {
		lines = append(lines, "rest "+r.Reveal())
	}
	return lines
}

func diff(want, got any) string {
	return cmp.Diff(want, got, cmpopts.EquateEmpty(), cmp.Comparer(func(a, b token.Value) bool { return a == b }), cmp.Comparer(func(a, b topic.Filter) bool { return a == b }))
}
