package credsecret_test

import (
	"strings"
	"testing"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/credsecret"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
)

// secretText is the token in every template test; nothing but the output may hold it.
const secretText = "canary-31c9"

func renderTemplates(tb testing.TB, templates map[string]string) (map[string][]byte, error) {
	tb.Helper()
	l := layout()
	l.Templates = templates
	secret, err := l.Render(credsecret.Record{Tokens: []credsecret.Issued{issued(tb, token.PublishSubscribe, secretText, "a")}}, credsecret.Facts{}, noon)
	if err != nil {
		return nil, err
	}
	return secret.Data, nil
}

func TestTemplates(t *testing.T) {
	for text, want := range map[string]string{
		"":                        "",
		"plain\r\ntext\r\n":       "plain\r\ntext\r\n",
		"{{/* a comment */}}":     "",
		" {{- /* trimmed */ -}} ": "",
		"{{.Username}}":           "Token|LTAI1|post-cn-1",
		"a  {{- .Host -}}  b":     "abroker.exampleb",
		"{{json .Password}}":      `"RW|` + secretText + `"`,
		"{{.Host | base64}}":      "YnJva2VyLmV4YW1wbGU=",
		"{{.Host | json | json}}": `"\"broker.example\""`,
		"{{if .TCPURL}}tcp{{else if .WSSURL}}wss{{else}}none{{end}}":                                            "wss",
		`{{if and .ClientID (not .TCPURL) (or (eq .Port "8883") false)}}y{{end}}`:                               "y",
		`{{if ne .Port "1"}}y{{end}}`:                                                                           "y",
		`{{"{{"}}{{1}}{{true}}`:                                                                                 "{{1true",
		"{{.ClientID}} {{.GroupID}} {{.DeviceID}} {{.URL}} {{.WSSURL}} {{.TCPURL}} {{.ExpiresAt}} {{.RenewAt}}": "GID_line_a@@@press-07 GID_line_a press-07 mqtts://broker.example:8883 wss://broker.example:443/mqtt  2026-03-02T12:00:00Z 2026-03-01T12:00:00Z",
	} {
		t.Run(text, func(t *testing.T) {
			data, err := renderTemplates(t, map[string]string{"k": text})
			if err != nil {
				t.Fatal(err)
			}
			if got := string(data["k"]); got != want {
				t.Errorf("%q, want %q", got, want)
			}
		})
	}
}

func TestTemplatesThatAreRefused(t *testing.T) {
	for sentence, text := range map[string]string{
		"a loop":                            "{{range .Password}}x{{end}}",
		"a loop a billion times":            "{{range 1000000000}}x{{end}}",
		"a loop that ends itself":           "{{range 1}}{{break}}{{end}}",
		"a break without a loop":            "{{break}}",
		"a definition":                      `{{define "x"}}y{{end}}`,
		"an inclusion":                      `{{define "x"}}y{{end}}{{template "x"}}`,
		"an inclusion of itself":            `{{template ""}}`,
		"a definition of itself":            `{{define ""}}{{template ""}}{{end}}`,
		"a block":                           `{{block "x" .}}y{{end}}`,
		"with":                              "{{with .Host}}{{.}}{{end}}",
		"a variable":                        "{{$x := .Host}}{{$x}}",
		"the variable that is always there": "{{$.Password}}",
		"a variable in a condition":         "{{if $x := .Host}}{{$x}}{{end}}",
		"all fields at once":                "{{.}}",
		"nil":                               "{{nil}}",
		"printf":                            `{{printf "%1000000000s" .Host}}`,
		"print":                             "{{print .Password}}",
		"call":                              "{{call .Host}}",
		"index":                             "{{index .Password 0}}",
		"slice":                             "{{slice .Password 0 1}}",
		"html":                              "{{html .Password}}",
		"js":                                "{{js .Password}}",
		"urlquery":                          "{{urlquery .Password}}",
		"len":                               "{{len .Password}}",
		"an order":                          `{{if lt .Password "m"}}x{{end}}`,
		"a function in parentheses":         "{{json (len .Password)}}",
		"a function in an else branch":      "{{if .Host}}{{else}}{{len .Host}}{{end}}",
		"a field of parentheses":            "{{(.Password).Nope}}",
		"a function that does not exist":    "{{upper .Password}}",
		"an empty action":                   "{{- -}}",
		"an action that does not end":       "{{.Password",
		"a condition that does not end":     "{{if .Password}}",
		"a field that does not exist":       "{{.Nope}}",
		"a field of a field":                "{{.Password.Nope}}",
		"a method":                          "{{.Password.Len}}",
		"arguments to a value":              `{{.Password "x"}}`,
		"an argument that is missing":       "{{json}}",
		"a condition without an argument":   "{{not}}",
		"a number to a function of texts":   "{{json 1}}",
		"a comparison of unlike things":     "{{eq .Password 1}}",
		"a chain that doubles each time":    "{{.Password" + strings.Repeat("|json", 3000) + "}}",
		"a chain that grows by a third":     "{{.Password" + strings.Repeat("|base64", 2000) + "}}",
		"a huge output":                     strings.Repeat("{{.Password"+strings.Repeat("|base64", 14)+"}}", 130),
		"a huge template":                   strings.Repeat("x", credsecret.MaxTemplate+1),
		"a deep nest":                       strings.Repeat("{{if .Host}}", 100_000) + strings.Repeat("{{end}}", 100_000),
		"many parentheses":                  "{{" + strings.Repeat("(", 1_000_000),
	} {
		t.Run(sentence, func(t *testing.T) {
			_, err := renderTemplates(t, map[string]string{"some-key": text})
			if err == nil {
				t.Fatal("rendered")
			}
			if strings.Contains(err.Error(), secretText) || !strings.Contains(err.Error(), "some-key") || len(err.Error()) > 200 {
				t.Errorf("error %q must name the key, quote nothing and be short", err)
			}
		})
	}
}

func TestATemplateNestsAsDeepAsItFits(t *testing.T) {
	const depth = (credsecret.MaxTemplate - 1) / len("{{if 1}}{{end}}")
	text := strings.Repeat("{{if 1}}", depth) + "x" + strings.Repeat("{{end}}", depth)
	if _, err := renderTemplates(t, map[string]string{"k": text}); err != nil {
		t.Error(err)
	}
}

func TestTemplateKeys(t *testing.T) {
	for key, want := range map[string]bool{
		"bridge.conf": true, "a_B-9": true, ".env": true, "mqtt_url": true,
		"username": false, "password": false, "client-id": false, "group-id": false, "tcp-url": false, "ca.crt": false,
		"tokens.json": false, "retired.json": false, "permissions.json": false, "MQTT_PASSWORD": false, "MQTT_ANYTHING": false,
		"": false, ".": false, "..": false, "..data": false, "a/b": false, "a b": false, "é": false, strings.Repeat("a", 254): false,
	} {
		t.Run(key, func(t *testing.T) {
			if _, err := renderTemplates(t, map[string]string{key: "x"}); (err == nil) != want {
				t.Errorf("error %v, want the key taken: %t", err, want)
			}
		})
	}
}

func TestTheFirstBadTemplateIsNamed(t *testing.T) {
	for range 20 {
		_, err := renderTemplates(t, map[string]string{"c": "{{", "b": "{{", "a": "fine"})
		if err == nil || !strings.Contains(err.Error(), `"b"`) {
			t.Fatalf("error %v must be the same each time", err)
		}
	}
}
