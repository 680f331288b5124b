package credsecret_test

import (
	"os"
	"path/filepath"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/google/go-cmp/cmp"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/credsecret"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
	"github.com/mqtt-token-operator/mqtt-token-operator/pkg/mqttcred"
)

// mount lays a Secret out as the kubelet does: the files in a folder of their own, a link ..data to it that is swapped
// by a rename, and one link per key through ..data. The folder before it is removed.
func mount(t *testing.T, dir, version string, secret *corev1.Secret) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	link, before := filepath.Join(dir, "..data"), ""
	if target, err := os.Readlink(link); err == nil {
		before = filepath.Join(dir, target)
	}
	must(os.Mkdir(filepath.Join(dir, version), 0o755))
	for key, value := range secret.Data {
		must(os.WriteFile(filepath.Join(dir, version, key), value, 0o600))
		if before == "" {
			must(os.Symlink(filepath.Join("..data", key), filepath.Join(dir, key)))
		}
	}
	must(os.Symlink(version, link+"_tmp"))
	must(os.Rename(link+"_tmp", link))
	if before != "" {
		must(os.RemoveAll(before))
	}
}

func TestAMountedSecretIsReadByTheClientHelper(t *testing.T) {
	dir := t.TempDir()
	l := layout()
	l.Broker.CA = "-----PEM-----\n"
	mount(t, dir, "..2026_03_01", render(t, l, oneWay(t)))
	got, err := mqttcred.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := mqttcred.Credentials{
		Username: "Token|LTAI1|post-cn-1", Password: "R|subscribe-text|W|publish-text", ClientID: "GID_line_a@@@press-07",
		Host: "broker.example", Port: "8883", URL: "mqtts://broker.example:8883", WSSURL: "wss://broker.example:443/mqtt",
		CA: []byte("-----PEM-----"), ExpiresAt: noon.AddDate(0, 0, 1), RenewAt: noon.Add(16 * 3600e9),
		Permissions: []mqttcred.Permission{
			{Filter: "both", Actions: []string{"Publish", "Subscribe"}, Types: []string{"R", "W"}, ExpiresAt: noon.AddDate(0, 0, 1)},
			{Filter: "down/#", Actions: []string{"Subscribe"}, Types: []string{"R"}, ExpiresAt: noon.AddDate(0, 0, 1)},
			{Filter: "up", Actions: []string{"Publish"}, Types: []string{"W"}, ExpiresAt: noon.AddDate(0, 0, 1)},
		},
		Tokens: []mqttcred.Token{
			{Type: "R", Token: "subscribe-text", IssuedAt: noon, ExpiresAt: noon.AddDate(0, 0, 1)},
			{Type: "W", Token: "publish-text", IssuedAt: noon, ExpiresAt: noon.AddDate(0, 0, 1)},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}

	mount(t, dir, "..2026_03_02", render(t, layout(), credsecret.Record{Tokens: []credsecret.Issued{issued(t, token.PublishSubscribe, "next", "a")}}))
	got, err = mqttcred.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got.Password != "RW|next" || len(got.Tokens) != 1 || len(got.Permissions) != 1 || got.CA != nil {
		t.Errorf("after the swap something of the old set is left: %v", got)
	}
}
