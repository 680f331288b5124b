package mqttcred_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mqtt-token-operator/mqtt-token-operator/pkg/mqttcred"
)

const canary = "canary-90ce"

func files() map[string]string {
	return map[string]string{
		"username": "Token|key|instance", "password": "R|" + canary, "client-id": "GID_a@@@b",
		"host": "broker.example", "port": "8883", "url": "mqtts://broker.example:8883", "wss-url": "wss://broker.example:443/mqtt",
		"expires-at": "2026-03-02T12:00:00Z", "renew-at": "2026-03-02T04:00:00Z",
		"permissions.json": `[{"filter":"a/#","actions":["Subscribe"],"types":["R"],"expiresAt":"2026-03-02T12:00:00Z"}]`,
		"tokens.json":      `[{"type":"R","token":"` + canary + `","issuedAt":"2026-03-01T12:00:00Z","expiresAt":"2026-03-02T12:00:00Z"}]`,
		"retired.json":     `[]`,
	}
}

func write(t *testing.T, dir string, contents map[string]string) {
	t.Helper()
	for name, text := range contents {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func credentials() mqttcred.Credentials {
	end := time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)
	return mqttcred.Credentials{
		Username: "Token|key|instance", Password: "R|" + canary, ClientID: "GID_a@@@b",
		Host: "broker.example", Port: "8883", URL: "mqtts://broker.example:8883", WSSURL: "wss://broker.example:443/mqtt",
		ExpiresAt: end, RenewAt: end.Add(-8 * time.Hour),
		Permissions: []mqttcred.Permission{{Filter: "a/#", Actions: []string{"Subscribe"}, Types: []string{"R"}, ExpiresAt: end}},
		Tokens:      []mqttcred.Token{{Type: "R", Token: canary, IssuedAt: end.Add(-24 * time.Hour), ExpiresAt: end}},
	}
}

func TestLoad(t *testing.T) {
	for sentence, lay := range map[string]func(t *testing.T, dir string){
		"a plain folder": func(t *testing.T, dir string) { write(t, dir, files()) },
		"a mounted folder": func(t *testing.T, dir string) {
			if err := errors.Join(os.Mkdir(filepath.Join(dir, "..v1"), 0o700), os.Symlink("..v1", filepath.Join(dir, "..data"))); err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(dir, "..v1"), files())
			write(t, dir, map[string]string{"ca.crt": "left over"}) // what does not belong to the version is not read
		},
		"a folder behind an absolute link": func(t *testing.T, dir string) {
			elsewhere := t.TempDir()
			if err := os.Symlink(elsewhere, filepath.Join(dir, "..data")); err != nil {
				t.Fatal(err)
			}
			write(t, elsewhere, files())
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			dir := t.TempDir()
			lay(t, dir)
			got, err := mqttcred.Load(dir)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(credentials(), got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestLoadOfAGroupWithCertificates(t *testing.T) {
	dir := t.TempDir()
	contents := files()
	delete(contents, "client-id")
	contents["group-id"], contents["ca.crt"] = "GID_a", "PEM"
	write(t, dir, contents)
	got, err := mqttcred.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got.ClientID != "" || got.GroupID != "GID_a" || string(got.CA) != "PEM" {
		t.Errorf("client %q, group %q, CA %q", got.ClientID, got.GroupID, got.CA)
	}
}

func TestLoadNamesTheFileAndQuotesNothing(t *testing.T) {
	for _, name := range []string{
		"username", "password", "host", "port", "url", "wss-url", "expires-at", "renew-at", "permissions.json", "tokens.json",
	} {
		t.Run(name+" is missing", func(t *testing.T) {
			dir, contents := t.TempDir(), files()
			delete(contents, name)
			write(t, dir, contents)
			_, err := mqttcred.Load(dir)
			if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), name) {
				t.Errorf("error %v must name %s", err, name)
			}
		})
	}
	for name, text := range map[string]string{
		"expires-at": canary, "renew-at": "", "permissions.json": `[{"filter":` + canary, "tokens.json": `"` + canary + `"`,
	} {
		t.Run(name+" holds something else", func(t *testing.T) {
			dir, contents := t.TempDir(), files()
			contents[name] = text
			write(t, dir, contents)
			got, err := mqttcred.Load(dir)
			if err == nil || !strings.Contains(err.Error(), name) || strings.Contains(err.Error(), canary) {
				t.Errorf("error %v must name %s and quote nothing", err, name)
			}
			if diff := cmp.Diff(mqttcred.Credentials{}, got); diff != "" {
				t.Error("an error comes with credentials")
			}
		})
	}
}

func TestLoadOfWhatIsNoFolder(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "ca.crt"), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, dir, files())
	broken := t.TempDir()
	write(t, broken, map[string]string{"..data": "not a link"})
	for _, name := range []string{dir, broken, filepath.Join(dir, "nothing")} {
		if _, err := mqttcred.Load(name); err == nil {
			t.Errorf("loaded %s", name)
		}
	}
}

func TestPrintingHidesTheSecrets(t *testing.T) {
	c := credentials()
	retired := mqttcred.RetiredToken{Token: c.Tokens[0], Topics: []string{"a"}}
	for _, value := range []any{c, &c, []mqttcred.Credentials{c}, c.Tokens[0], &c.Tokens[0], c.Tokens, retired, &retired} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			if text := fmt.Sprintf(verb, value); strings.Contains(text, canary) || strings.Contains(text, fmt.Sprintf("%x", canary)) {
				t.Errorf("%s of %T prints the secret", verb, value)
			}
		}
	}
	for _, value := range []fmt.Stringer{c, c.Tokens[0]} {
		if text := value.String(); strings.Contains(text, canary) || !strings.Contains(text, "2026-03-02") {
			t.Errorf("described as %q", text)
		}
	}
	text, err := json.Marshal(c)
	if err != nil || strings.Contains(string(text), canary) {
		t.Errorf("JSON of credentials holds the secret (error %v)", err)
	}
	if group := (mqttcred.Credentials{GroupID: "GID_a"}); !strings.Contains(group.String(), "GID_a") {
		t.Errorf("described as %q", group)
	}
}

func TestATokenIsUploadedAsJSON(t *testing.T) {
	text, err := json.Marshal(credentials().Tokens)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(files()["tokens.json"], string(text)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
