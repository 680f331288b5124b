package credsecret_test

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/credsecret"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
	"github.com/mqtt-token-operator/mqtt-token-operator/pkg/mqttcred"
)

func TestKeys(t *testing.T) {
	files := []string{
		"username", "password", "host", "port", "url", "wss-url", "expires-at", "renew-at",
		"tokens.json", "permissions.json", "retired.json",
	}
	env := []string{
		"MQTT_USERNAME", "MQTT_PASSWORD", "MQTT_HOST", "MQTT_PORT", "MQTT_URL", "MQTT_WSS_URL", "MQTT_EXPIRES_AT",
		"MQTT_RENEW_AT", "MQTT_OPERATOR_RECORD",
	}
	for sentence, tc := range map[string]struct {
		change              func(*credsecret.Layout)
		wantFiles, wantEnvs []string
	}{
		"a client": {
			change:    func(*credsecret.Layout) {},
			wantFiles: []string{"client-id"}, wantEnvs: []string{"MQTT_CLIENT_ID"},
		},
		"a group": {
			change:    func(l *credsecret.Layout) { l.ClientID, l.DeviceID = "", "" },
			wantFiles: []string{"group-id"}, wantEnvs: []string{"MQTT_GROUP_ID"},
		},
		"certificates of its own": {
			change:    func(l *credsecret.Layout) { l.Broker.CA = "-----PEM-----\r\n\n" },
			wantFiles: []string{"client-id", "ca.crt"}, wantEnvs: []string{"MQTT_CLIENT_ID", "MQTT_CA_CRT"},
		},
		"plain text": {
			change:    func(l *credsecret.Layout) { l.Broker.AllowPlaintext = true },
			wantFiles: []string{"client-id", "tcp-url"}, wantEnvs: []string{"MQTT_CLIENT_ID", "MQTT_TCP_URL"},
		},
		"a template": {
			change:    func(l *credsecret.Layout) { l.Templates = map[string]string{"bridge.conf": "x"} },
			wantFiles: []string{"client-id", "bridge.conf"}, wantEnvs: []string{"MQTT_CLIENT_ID", "bridge.conf"},
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			for _, format := range []struct {
				env  bool
				want []string
			}{{false, slices.Concat(files, tc.wantFiles)}, {true, slices.Concat(env, tc.wantEnvs)}} {
				l := layout()
				tc.change(&l)
				l.Env = format.env
				data := render(t, l, oneWay(t)).Data
				slices.Sort(format.want)
				if diff := cmp.Diff(format.want, slices.Sorted(maps.Keys(data))); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
				for key, value := range data {
					if strings.HasSuffix(string(value), "\n") {
						t.Errorf("%s ends in a newline", key)
					}
				}
				promised, err := l.Keys(true)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(format.want, slices.Sorted(maps.Keys(promised))); diff != "" {
					t.Errorf("Keys (-want +got):\n%s", diff)
				}
			}
		})
	}
}

func TestValues(t *testing.T) {
	l := layout()
	l.Broker.AllowPlaintext = true
	data := render(t, l, oneWay(t)).Data
	want := map[string]string{
		"username": "Token|LTAI1|post-cn-1", "password": "R|subscribe-text|W|publish-text",
		"client-id": "GID_line_a@@@press-07", "host": "broker.example", "port": "8883",
		"url": "mqtts://broker.example:8883", "wss-url": "wss://broker.example:443/mqtt", "tcp-url": "mqtt://broker.example:1883",
		"expires-at": "2026-03-02T12:00:00Z", "renew-at": "2026-03-02T04:00:00Z",
	}
	for key, value := range want {
		if got := string(data[key]); got != value {
			t.Errorf("%s: %q, want %q", key, got, value)
		}
	}
	both := credsecret.Record{Tokens: []credsecret.Issued{issued(t, token.PublishSubscribe, "text", "a")}}
	if got := string(render(t, l, both).Data["password"]); got != "RW|text" {
		t.Errorf("password %q", got)
	}
}

func TestPermissionsMergeWhatTwoTokensAllow(t *testing.T) {
	record := oneWay(t)
	record.Tokens[0].Expires = noon.Add(time.Hour)
	var got []mqttcred.Permission
	if err := json.Unmarshal(render(t, layout(), record).Data[mqttcred.KeyPermissions], &got); err != nil {
		t.Fatal(err)
	}
	first, second := noon.Add(time.Hour), noon.Add(24*time.Hour)
	want := []mqttcred.Permission{
		{Filter: "both", Actions: []string{"Publish", "Subscribe"}, Types: []string{"R", "W"}, ExpiresAt: first},
		{Filter: "down/#", Actions: []string{"Subscribe"}, Types: []string{"R"}, ExpiresAt: second},
		{Filter: "up", Actions: []string{"Publish"}, Types: []string{"W"}, ExpiresAt: first},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestIDChangesWithEveryField(t *testing.T) {
	base := layout()
	base.Labels, base.Templates = map[string]string{"a": "1", "b": "2"}, map[string]string{"k": "v"}
	equal := layout()
	equal.Labels, equal.Templates = map[string]string{"b": "2", "a": "1"}, map[string]string{"k": "v"}
	if base.ID() != equal.ID() {
		t.Error("equal layouts have different ids")
	}
	seen := map[string]string{base.ID(): "no change"}
	for change, apply := range map[string]func(*credsecret.Layout){
		"namespace":      func(l *credsecret.Layout) { l.Namespace = "x" },
		"name":           func(l *credsecret.Layout) { l.Name = "x" },
		"label":          func(l *credsecret.Layout) { l.Labels = map[string]string{"a": "1"} },
		"annotation":     func(l *credsecret.Layout) { l.Annotations = map[string]string{"a": "1"} },
		"format":         func(l *credsecret.Layout) { l.Env = true },
		"template":       func(l *credsecret.Layout) { l.Templates = map[string]string{"k": "w"} },
		"grant":          func(l *credsecret.Layout) { l.GrantName = "x" },
		"uid":            func(l *credsecret.Layout) { l.GrantUID = "x" },
		"cluster":        func(l *credsecret.Layout) { l.ClusterID = "x" },
		"instance":       func(l *credsecret.Layout) { l.InstanceID = "x" },
		"key":            func(l *credsecret.Layout) { l.KeyID = "x" },
		"client":         func(l *credsecret.Layout) { l.ClientID = "x" },
		"group":          func(l *credsecret.Layout) { l.GroupID = "x" },
		"device":         func(l *credsecret.Layout) { l.DeviceID = "x" },
		"host":           func(l *credsecret.Layout) { l.Broker.Host = "x" },
		"TLS port":       func(l *credsecret.Layout) { l.Broker.TLSPort++ },
		"WSS port":       func(l *credsecret.Layout) { l.Broker.WSSPort++ },
		"TCP port":       func(l *credsecret.Layout) { l.Broker.TCPPort++ },
		"CA":             func(l *credsecret.Layout) { l.Broker.CA = "x" },
		"plain text":     func(l *credsecret.Layout) { l.Broker.AllowPlaintext = true },
		"renewal moment": func(l *credsecret.Layout) { l.RenewBefore++ },
	} {
		changed := base
		apply(&changed)
		if before, taken := seen[changed.ID()]; taken {
			t.Errorf("%s has the id of %s", change, before)
		}
		seen[changed.ID()] = change
	}
}

func TestClientTellsInstancesAndClientsApart(t *testing.T) {
	group := layout()
	group.ClientID, group.DeviceID = "", ""
	if diff := cmp.Diff([]string{"post-cn-1/GID_line_a@@@press-07", "post-cn-1/GID_line_a"}, []string{layout().Client(), group.Client()}); diff != "" {
		t.Error(diff)
	}
}

func TestMetadata(t *testing.T) {
	l := layout()
	l.Labels = map[string]string{"team": "a", credsecret.GrantLabel: "stolen"}
	l.Annotations = map[string]string{"note": "b", credsecret.GrantUIDAnnotation: "stolen", credsecret.FactsAnnotation: "stolen"}
	secret := render(t, l, oneWay(t))
	if diff := cmp.Diff(map[string]string{"team": "a", credsecret.GrantLabel: "press-07"}, secret.Labels); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}
	delete(secret.Annotations, credsecret.FactsAnnotation)
	want := map[string]string{"note": "b", credsecret.GrantUIDAnnotation: grantUID, credsecret.ClusterIDAnnotation: "cluster-1"}
	if diff := cmp.Diff(want, secret.Annotations); diff != "" {
		t.Errorf("annotations (-want +got):\n%s", diff)
	}
	if secret.Type != credsecret.Type || secret.Namespace != "line-a" || secret.Name != "press-07-mqtt" {
		t.Errorf("it is %s %s/%s", secret.Type, secret.Namespace, secret.Name)
	}
}

func TestRenderRefusesWhatTheAPIServerWould(t *testing.T) {
	big := strings.Repeat("x", 15<<10)
	templates := map[string]string{}
	for key := range strings.SplitSeq("abcdefghijklmnop", "") {
		templates[key] = "{{if .Host}}" + big + "{{end}}"
	}
	for sentence, tc := range map[string]struct {
		change  func(*credsecret.Layout)
		wantErr string
	}{
		"a label's value":         {func(l *credsecret.Layout) { l.Labels = map[string]string{"team": "a b"} }, "team"},
		"a label's key":           {func(l *credsecret.Layout) { l.Labels = map[string]string{"a b": ""} }, "a b"},
		"an annotation's key":     {func(l *credsecret.Layout) { l.Annotations = map[string]string{"a b": ""} }, "a b"},
		"annotations too large":   {func(l *credsecret.Layout) { l.Annotations = map[string]string{"a": strings.Repeat("x", 256<<10)} }, "annotations"},
		"a grant's name too long": {func(l *credsecret.Layout) { l.GrantName = strings.Repeat("x", 64) }, credsecret.GrantLabel},
		"contents too large": {func(l *credsecret.Layout) {
			l.Broker.CA = strings.Repeat("x", credsecret.MaxSize-200<<10)
			l.Templates = templates
		}, "bytes"},
	} {
		t.Run(sentence, func(t *testing.T) {
			l := layout()
			tc.change(&l)
			_, err := l.Render(oneWay(t), credsecret.Facts{}, noon)
			if err == nil || !strings.Contains(err.Error(), tc.wantErr) {
				t.Errorf("error %v, want one that names %q", err, tc.wantErr)
			}
		})
	}
}

func TestCheckFindsATemplateThatFailsOnTokensOnly(t *testing.T) {
	l := layout()
	l.Templates = map[string]string{"k": "{{if .Password}}{{.Nope}}{{end}}"}
	if _, err := l.Render(credsecret.Record{}, credsecret.Facts{}, noon); err != nil {
		t.Fatalf("without tokens: %v", err)
	}
	scopes := oneWay(t).Scopes()
	if err := l.Check(scopes, noon); err == nil {
		t.Error("it was not found")
	}
	if err := layout().Check(scopes, noon); err != nil {
		t.Error(err)
	}
}
