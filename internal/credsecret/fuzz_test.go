package credsecret_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/credsecret"
	"github.com/mqtt-token-operator/mqtt-token-operator/pkg/mqttcred"
)

// What is accepted can be written again and then reads the same.
func FuzzReadRecord(f *testing.F) {
	l := layout()
	files := render(f, l, oneWay(f)).Data
	l.Env = true
	f.Add(files[mqttcred.KeyTokens], files[mqttcred.KeyPermissions], files[mqttcred.KeyRetired], []byte{}, false)
	f.Add([]byte("null"), []byte("[]"), []byte("[]"), []byte{}, false)
	f.Add([]byte{}, []byte{}, []byte{}, render(f, l, oneWay(f)).Data[mqttcred.EnvRecord], true)
	f.Fuzz(func(t *testing.T, tokens, permissions, retired, environment []byte, env bool) {
		secret := &corev1.Secret{Data: map[string][]byte{
			mqttcred.KeyTokens: tokens, mqttcred.KeyPermissions: permissions, mqttcred.KeyRetired: retired,
		}}
		if env {
			secret.Data[mqttcred.EnvRecord] = environment
		}
		record, err := credsecret.ReadRecord(secret)
		if err != nil {
			return
		}
		written, err := layout().Render(record, credsecret.Facts{}, noon)
		if err != nil {
			t.Fatalf("accepted, but not written again: %v", err)
		}
		again, err := credsecret.ReadRecord(written)
		if err != nil {
			t.Fatal(err)
		}
		facts, err := credsecret.ReadFacts(&written.ObjectMeta)
		if err != nil {
			t.Fatal(err)
		}
		if !again.Matches(facts, grantUID) || !record.Matches(facts, grantUID) {
			t.Error("it does not read the same")
		}
	})
}

func FuzzReadFacts(f *testing.F) {
	f.Add(render(f, layout(), oneWay(f)).Annotations[credsecret.FactsAnnotation])
	f.Add(`{"v":2,"issued":"9999-12-31T23:59:59-23:59"}`)
	f.Fuzz(func(t *testing.T, text string) {
		read := func(text string) (credsecret.Facts, error) {
			return credsecret.ReadFacts(&metav1.ObjectMeta{Annotations: map[string]string{credsecret.FactsAnnotation: text}})
		}
		facts, err := read(text)
		if err != nil {
			return
		}
		written, err := json.Marshal(facts)
		if err != nil {
			t.Fatalf("accepted, but not written again: %v", err)
		}
		again, err := read(string(written))
		if err != nil {
			t.Fatal(err)
		}
		rewritten, err := json.Marshal(again)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(written), string(rewritten)); diff != "" {
			t.Error(diff)
		}
	})
}

func FuzzTemplate(f *testing.F) {
	for _, text := range []string{
		"{{.Password}}", "{{if .Host}}{{json .Password}}{{else if .Port}}x{{end}}", "{{range .}}", `{{define ""}}{{.}}{{end}}`,
		"{{.Password|json|json|base64}}", "{{- /* */ -}}", "{{eq .Password 1}}", `{{and (not .Host) "x"}}`, "{{break}}", "{{$}}",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		data, err := renderTemplates(t, map[string]string{"k": text})
		switch {
		case err != nil && strings.Contains(err.Error(), secretText):
			t.Errorf("error %q quotes a value", err)
		case len(data["k"]) > credsecret.MaxTemplateOutput:
			t.Errorf("%d bytes", len(data["k"]))
		}
	})
}
