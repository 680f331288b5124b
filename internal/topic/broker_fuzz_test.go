package topic_test

import (
	"strings"
	"testing"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/topic"
)

// FuzzMatchesAsABrokerDoes holds Matches against the broker library's own matching.
func FuzzMatchesAsABrokerDoes(f *testing.F) {
	for _, pair := range [][2]string{
		{"a/#", "a"},
		{"a/#", "a/b/c"},
		{"a/+", "a/b"},
		{"a/+", "a/"},
		{"+", "a"},
		{"+", ""},
		{"#", "a/b"},
		{"+/+", "/"},
		{"a/+/c", "a/b/c"},
		{"/", "/"},
		{"a//b", "a//b"},
		{"+/#", "a"},
	} {
		f.Add(pair[0], pair[1])
	}
	f.Fuzz(func(t *testing.T, filter, name string) {
		parsed, err := topic.Parse(filter)
		if err != nil || name == "" || strings.ContainsAny(name, "+#\x00") || strings.HasPrefix(name, "$") {
			t.Skip("no filter, or no topic name")
		}
		if strings.HasSuffix(filter, "+/#") && strings.Count(name, "/") == strings.Count(filter, "/")-1 {
			t.Skip("'#' includes its parent level [MQTT-4.7.1-2]; the library forgets that below a '+'")
		}
		index := mqtt.NewTopicsIndex()
		index.Subscribe("client", packets.Subscription{Filter: filter})
		_, want := index.Subscribers(name).Subscriptions["client"]
		if got := parsed.Matches(name); got != want {
			t.Fatalf("%q matches %q: %v, the broker says %v", filter, name, got, want)
		}
	})
}
