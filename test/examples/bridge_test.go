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

// bridge is one that runs, and what arrives through it.
type bridge struct {
	*program
	port     string
	received <-chan string
}

// startBridge starts it with the Secret as a test has it: prepare changes it beforehand.
func startBridge(t *testing.T, prepare func(*stage.Stage)) (*stage.Stage, bridge) {
	t.Helper()
	if _, err := exec.LookPath("mosquitto"); err != nil {
		t.Skip("it needs mosquitto: hack/examples-deps.sh installs it")
	}
	s := stage.New(t, time.Hour)
	s.Template("bridge.conf", bridgeTemplate(t, s))
	s.Issue(time.Hour)
	prepare(s)
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
	started := example{command: []string{"sh", "examples/bridge/bridge.sh"}, environment: []string{"LOCAL_PORT=" + port}}
	return s, bridge{program: start(t, started, s), port: port, received: received}
}

// publish speaks to it as the programs beside it do, and fails while it does not run.
func (b bridge) publish(message string) error {
	return exec.CommandContext(b.t.Context(), "mosquitto_pub", "-h", "127.0.0.1", "-p", b.port, "-q", "1", "-t", "local/state", "-m", message).Run()
}

// carries publishes until a message has arrived: one that is published before the bridge is up may not.
func (b bridge) carries(what string) {
	b.t.Helper()
	for n := range 60 {
		message := fmt.Sprintf("%s %d", what, n)
		if b.publish(message) != nil {
			await(b.t, after(500*time.Millisecond))
			continue
		}
		select {
		case got := <-b.received:
			if strings.HasPrefix(got, what) {
				return
			}
		case <-time.After(500 * time.Millisecond):
		}
	}
	b.t.Fatalf("no message %q arrived", what)
}

func TestABridgeCarriesOnWithNewTokens(t *testing.T) {
	s, b := startBridge(t, func(*stage.Stage) {})
	b.carries("first")
	s.Issue(time.Hour)
	b.expect("^(reloaded|started anew)", "")
	s.RevokeAllButLast()
	b.carries("renewed")

	s.Withdraw()
	b.expect("^waiting: the tokens were taken back", "")
	b.stays(s, "^Connecting bridge")
	s.Issue(time.Hour)
	b.carries("released")
}

// Programs beside a bridge that is held from its start can publish all the same.
func TestABridgeWithoutTokensServesItsNeighbours(t *testing.T) {
	s, b := startBridge(t, (*stage.Stage).Withdraw)
	b.expect("^waiting: the tokens were taken back", "")
	for n := 0; b.publish("hello") != nil; n++ {
		if n == 20 {
			t.Fatal("nobody listens")
		}
		await(t, after(500*time.Millisecond))
	}
	b.stays(s, "Connecting bridge")
	s.Issue(time.Hour)
	b.carries("released")
}

// after is a message that comes later.
func after(d time.Duration) <-chan string {
	later := make(chan string, 1)
	time.AfterFunc(d, func() { later <- "" })
	return later
}
