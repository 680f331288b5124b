package examples_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/mqtt-token-operator/mqtt-token-operator/test/apiserver"
	"github.com/mqtt-token-operator/mqtt-token-operator/test/stage"
)

// The template is the one of the manifest, but for where things are on this machine.
func bridgeTemplate(t *testing.T, s *stage.Stage) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(apiserver.Root(), "examples", "bridge", "manifest.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var grant struct {
		Spec struct {
			Secret struct {
				Template map[string]string `json:"template"`
			} `json:"secret"`
		} `json:"spec"`
	}
	first, _, _ := strings.Cut(string(text), "\n---")
	if err := yaml.Unmarshal([]byte(first), &grant); err != nil {
		t.Fatal(err)
	}
	place := strings.NewReplacer(
		"bridge_capath /etc/ssl/certs", "bridge_cafile "+filepath.Join(s.Folder, "ca.crt"),
		"topic + both 1 local/ factory/line-a/gateway/", "topic state both 1 local/ stage/",
	)
	return place.Replace(grant.Spec.Secret.Template["bridge.conf"])
}

func TestABridgeCarriesOnWithNewTokens(t *testing.T) {
	if _, err := exec.LookPath("mosquitto"); err != nil {
		t.Skip("it needs mosquitto: hack/examples-deps.sh installs it")
	}
	s := stage.New(t, time.Hour)
	s.Template("bridge.conf", bridgeTemplate(t, s))
	s.Issue(time.Hour)
	received := s.Listen()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	t.Setenv("LOCAL_PORT", port)
	p := start(t, example{command: []string{"sh", "examples/bridge/bridge.sh"}}, s)

	publishLocally := func(message string) error {
		return exec.CommandContext(t.Context(), "mosquitto_pub", "-h", "127.0.0.1", "-p", port, "-q", "1", "-t", "local/state", "-m", message).Run()
	}
	// A message may be published before the bridge is up; the next one is not.
	arrives := func(what string) {
		t.Helper()
		for n := range 60 {
			message := fmt.Sprintf("%s %d", what, n)
			if publishLocally(message) != nil {
				await(t, after(500*time.Millisecond))
				continue
			}
			select {
			case got := <-received:
				if strings.HasPrefix(got, what) {
					return
				}
			case <-time.After(500 * time.Millisecond):
			}
		}
		t.Fatalf("no message %q arrived", what)
	}
	arrives("first")
	s.Issue(time.Hour)
	p.expect("^(reloaded|started anew)", "")
	s.RevokeAllButLast()
	arrives("renewed")

	s.Withdraw()
	p.expect("^waiting: the tokens were taken back", "")
	p.stays(s, "^Connecting bridge")
	s.Issue(time.Hour)
	arrives("released")
}

// after is a message that comes later.
func after(d time.Duration) <-chan string {
	later := make(chan string, 1)
	time.AfterFunc(d, func() { later <- "" })
	return later
}
