package mqttcred_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mqtt-token-operator/mqtt-token-operator/pkg/mqttcred"
)

func TestParseNotice(t *testing.T) {
	ends := time.UnixMilli(1655798142873)
	for sentence, tc := range map[string]struct {
		topic, payload string
		want           mqttcred.Notice
		no, over       bool
	}{
		"a token is about to end":            {topic: "$SYS/tokenExpireNotice", payload: `{"expireTime":1655798142873,"type":"RW"}`, want: mqttcred.Notice{Type: "RW", ExpiresAt: ends}},
		"the same in the other spelling":     {topic: "$SYS/tokenExprireNotice", payload: `{"exprireTime":1655798142873,"type":"RW"}`, want: mqttcred.Notice{Type: "RW", ExpiresAt: ends}},
		"one spelling of each":               {topic: "$SYS/tokenExpireNotice", payload: `{"exprireTime":1655798142873,"type":"RW"}`, want: mqttcred.Notice{Type: "RW", ExpiresAt: ends}},
		"a token has expired":                {topic: "$SYS/tokenInvalidNotice", payload: `{"code":2,"type":"W"}`, want: mqttcred.Notice{Invalid: true, Code: 2, Type: "W"}, over: true},
		"a token was revoked":                {topic: "$SYS/tokenInvalidNotice", payload: `{"code":3,"type":"R"}`, want: mqttcred.Notice{Invalid: true, Code: 3, Type: "R"}, over: true},
		"a topic is not permitted":           {topic: "$SYS/tokenInvalidNotice", payload: `{"code":4,"type":"R"}`, want: mqttcred.Notice{Invalid: true, Code: 4, Type: "R"}},
		"a message of an application is not": {topic: "factory/state", payload: `{"code":3}`, no: true},
		"what is no JSON is not":             {topic: "$SYS/tokenInvalidNotice", payload: `code 3`, no: true},
	} {
		t.Run(sentence, func(t *testing.T) {
			got, is := mqttcred.ParseNotice(tc.topic, []byte(tc.payload))
			if diff := cmp.Diff(tc.want, got); diff != "" || is == tc.no || got.IsOver() != tc.over {
				t.Errorf("notice %v, over %v (-want +got):\n%s", is, got.IsOver(), diff)
			}
		})
	}
}

func TestUploads(t *testing.T) {
	credentials := func(change func(*mqttcred.Credentials)) mqttcred.Credentials {
		c := mqttcred.Credentials{Username: "u", ClientID: "c", URL: "mqtts://b", Tokens: []mqttcred.Token{{Type: "R", Token: "r1"}, {Type: "W", Token: "w1"}}}
		change(&c)
		return c
	}
	used := credentials(func(*mqttcred.Credentials) {})
	for sentence, tc := range map[string]struct {
		newer  func(*mqttcred.Credentials)
		want   []string
		wantNo bool
	}{
		"each token, in an order that does not matter": {
			newer: func(c *mqttcred.Credentials) {
				c.Tokens = []mqttcred.Token{{Type: "W", Token: "w2"}, {Type: "R", Token: "r2"}}
			},
			want: []string{`{"token":"w2","type":"W"}`, `{"token":"r2","type":"R"}`},
		},
		"not for another user":   {newer: func(c *mqttcred.Credentials) { c.Username = "v" }, wantNo: true},
		"not for another client": {newer: func(c *mqttcred.Credentials) { c.ClientID = "d" }, wantNo: true},
		"not at another broker":  {newer: func(c *mqttcred.Credentials) { c.URL = "mqtts://c" }, wantNo: true},
		"not if a type is gone":  {newer: func(c *mqttcred.Credentials) { c.Tokens = c.Tokens[:1] }, wantNo: true},
		"not if a type is new": {
			newer: func(c *mqttcred.Credentials) { c.Tokens = append(c.Tokens, mqttcred.Token{Type: "RW"}) }, wantNo: true,
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			messages, possible := mqttcred.Uploads(used, credentials(tc.newer))
			var got []string
			for _, m := range messages {
				got = append(got, string(m))
			}
			if diff := cmp.Diff(tc.want, got); diff != "" || possible == tc.wantNo {
				t.Errorf("possible: %v (-want +got):\n%s", possible, diff)
			}
		})
	}
}
