package credsecret_test

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/credsecret"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/topic"
)

const grantUID = "5d0c0f5e-9a5c-4b1e-8f0b-0c5a3f1f2d11"

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func layout() credsecret.Layout {
	return credsecret.Layout{
		Namespace: "line-a", Name: "press-07-mqtt",
		GrantName: "press-07", GrantUID: grantUID, ClusterID: "cluster-1",
		InstanceKey: "mqtt-system/factory", InstanceID: "post-cn-1", KeyID: "LTAI1",
		ClientID: "GID_line_a@@@press-07", GroupID: "GID_line_a", DeviceID: "press-07",
		Broker:      credsecret.Broker{Host: "broker.example", TLSPort: 8883, WSSPort: 443, TCPPort: 1883},
		RenewBefore: 8 * time.Hour,
	}
}

func scope(tb testing.TB, kind token.Type, filters ...string) token.Scope {
	tb.Helper()
	var topics []topic.Filter
	for _, text := range filters {
		topics = append(topics, topic.MustParse(text))
	}
	made, err := token.NewScope(kind, topics...)
	if err != nil {
		tb.Fatal(err)
	}
	return made
}

func issued(tb testing.TB, kind token.Type, text string, filters ...string) credsecret.Issued {
	tb.Helper()
	return credsecret.Issued{
		Scope: scope(tb, kind, filters...), Value: token.NewValue(text), Issued: noon, Expires: noon.Add(24 * time.Hour),
	}
}

func filters(n int) []string {
	var list []string
	for i := range n {
		list = append(list, fmt.Sprintf("factory/%03d/#", i))
	}
	return list
}

// oneWay is a record of two tokens, with 'both' folded into them, and two retired ones.
func oneWay(tb testing.TB) credsecret.Record {
	tb.Helper()
	return credsecret.Record{
		Tokens: []credsecret.Issued{issued(tb, token.Publish, "publish-text", "both", "up"), issued(tb, token.Subscribe, "subscribe-text", "both", "down/#")},
		Retired: []credsecret.Retired{
			{Issued: issued(tb, token.Publish, "old-publish-text", "old"), Client: "post-cn-1/GID_line_a@@@press-07", RevokeAt: noon.Add(5 * time.Minute)},
			{Issued: issued(tb, token.Subscribe, "old-subscribe-text", "down/#"), Client: "post-cn-1/GID_line_a@@@press-07"},
		},
	}
}

func render(tb testing.TB, l credsecret.Layout, record credsecret.Record) *corev1.Secret {
	tb.Helper()
	secret, err := l.Render(record, credsecret.Facts{Generation: 3, Revision: 7, Reissue: "now"}, noon.Add(16*time.Hour))
	if err != nil {
		tb.Fatal(err)
	}
	return secret
}
