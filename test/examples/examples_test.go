// Package examples_test runs the examples as they are shipped, against a broker that holds them to the files of a mounted
// Secret.
package examples_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mqtt-token-operator/mqtt-token-operator/pkg/mqttcred"
	"github.com/mqtt-token-operator/mqtt-token-operator/test/apiserver"
	"github.com/mqtt-token-operator/mqtt-token-operator/test/stage"
)

const (
	soon = 30 * time.Second
	// quiet is how long an example with dead tokens is watched.
	quiet = 3 * time.Second
)

// example is a program that publishes numbers.
type example struct {
	command     []string
	environment []string
	// needs says what it runs with, and has what fails without.
	needs string
	has   []string
	// uploads says that it goes on with new tokens over an open connection; otherwise each message is one of its own.
	uploads bool
}

func examples() map[string]example {
	const jars = "/usr/share/java/mqtt-client.jar:/usr/share/java/hawtbuf.jar:/usr/share/java/hawtdispatch.jar:/usr/share/java/hawtdispatch-transport.jar"
	return map[string]example{
		"go": {command: []string{"go", "run", "./examples/go"}, uploads: true, needs: "Go", has: []string{"go", "version"}},
		"shell": {
			command: []string{"sh", "examples/shell/publish.sh"}, needs: "mosquitto-clients", has: []string{"which", "mosquitto_pub"},
		},
		"python": {
			command: []string{"/usr/bin/python3", "examples/python/client.py"}, uploads: true,
			needs: "python3-paho-mqtt", has: []string{"/usr/bin/python3", "-c", "import paho.mqtt.client"},
		},
		"node": {
			command: []string{"node", "examples/node/client.js"}, uploads: true,
			needs: "Node.js and mqtt.js", has: []string{"node", "-e", "require('./examples/node/node_modules/mqtt')"},
		},
		"java": {
			command: []string{"java", "-cp", jars, "examples/java/Client.java"}, uploads: true,
			needs: "a JDK and libmqtt-client-java", has: []string{"sh", "-c", "java --version && ls /usr/share/java/mqtt-client.jar"},
		},
	}
}

// isThere reports whether an example can run here.
func (e example) isThere() bool {
	check := exec.Command(e.has[0], e.has[1:]...)
	check.Dir = apiserver.Root()
	return check.Run() == nil
}

// program is an example that runs.
type program struct {
	t     *testing.T
	lines chan string

	mu  sync.Mutex
	all []string
}

func start(t *testing.T, e example, s *stage.Stage) *program {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	child := exec.CommandContext(ctx, e.command[0], e.command[1:]...)
	child.Dir = apiserver.Root()
	child.Env = append(os.Environ(), "MQTT_CREDENTIALS_DIR="+s.Folder, "MQTT_TOPIC="+stage.Topic, "EVERY=1", "SCRATCH="+t.TempDir())
	child.Env = append(child.Env, e.environment...)
	child.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	child.Cancel = func() error { return syscall.Kill(-child.Process.Pid, syscall.SIGTERM) }
	child.WaitDelay = 5 * time.Second
	reading, writing := io.Pipe()
	child.Stdout, child.Stderr = writing, writing
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	p := &program{t: t, lines: make(chan string, 1024)}
	go p.read(reading)
	t.Cleanup(func() {
		cancel()
		_ = child.Wait()
		_ = writing.Close()
		p.checkForSecrets(s)
	})
	return p
}

func (p *program) read(output io.Reader) {
	for scanner := bufio.NewScanner(output); scanner.Scan(); {
		p.mu.Lock()
		p.all = append(p.all, scanner.Text())
		p.mu.Unlock()
		p.lines <- scanner.Text()
	}
}

// checkForSecrets looks for what no log may hold.
func (p *program) checkForSecrets(s *stage.Stage) {
	p.mu.Lock()
	defer p.mu.Unlock()
	text := strings.Join(p.all, "\n")
	for _, secret := range s.Secrets() {
		if strings.Contains(text, secret) {
			p.t.Error("it printed a token")
		}
	}
	if p.t.Failed() {
		p.t.Logf("it printed:\n%s", text)
	}
}

// expect waits for a line, and fails on one that must not come before; an empty pattern is none.
func (p *program) expect(pattern, not string) {
	p.t.Helper()
	wanted, wrong := regexp.MustCompile(pattern), regexp.MustCompile(not)
	timeout := time.After(soon)
	for {
		select {
		case line := <-p.lines:
			switch {
			case wanted.MatchString(line):
				return
			case not != "" && wrong.MatchString(line):
				p.t.Fatalf("%q before %q", line, pattern)
			}
		case <-timeout:
			p.t.Fatalf("it did not print %q", pattern)
		}
	}
}

// stays watches for a while that the broker sees no CONNECT, and that nothing is printed which must not be.
func (p *program) stays(s *stage.Stage, away string) {
	p.t.Helper()
	before := s.Cloud.Connects()
	defer func() {
		if tries := s.Cloud.Connects() - before; tries > 0 {
			p.t.Errorf("the broker saw %d CONNECTs", tries)
		}
	}()
	wrong, end := regexp.MustCompile(away), time.After(quiet)
	for {
		select {
		case line := <-p.lines:
			if wrong.MatchString(line) {
				p.t.Fatalf("it printed %q", line)
			}
		case <-end:
			return
		}
	}
}

// goesOn renews the tokens, and sees to it that the client uses the new ones, over an open connection if it can.
func (p *program) goesOn(e example, s *stage.Stage, received <-chan string) {
	p.t.Helper()
	s.Issue(time.Hour)
	if e.uploads {
		p.expect("uploaded new tokens", "not connected|^connected")
	}
	s.RevokeAllButLast()
	p.expect("^published", "not connected|refused|says")
	drain(received)
	await(p.t, received)
}

// eachExample runs a test for each, at the same time; what lacks something is skipped, and says so.
func eachExample(t *testing.T, test func(*testing.T, example)) {
	t.Helper()
	for name, e := range examples() {
		t.Run(name, func(t *testing.T) {
			if !e.isThere() {
				t.Skipf("it needs %s: hack/examples-deps.sh installs it", e.needs)
			}
			t.Parallel()
			test(t, e)
		})
	}
}

func TestTheExamplesKeepTheClientContract(t *testing.T) {
	eachExample(t, func(t *testing.T, e example) {
		s := stage.New(t, time.Hour)
		received := s.Listen()
		p := start(t, e, s)
		p.expect("^published 1$", "not connected|refused")
		for range 2 {
			await(t, received)
		}

		p.goesOn(e, s, received)

		s.Revoke()
		p.expect("^waiting: .*others", "")
		p.stays(s, "^connected|^published|^refused")
		s.Issue(time.Hour)
		p.expect("^published", "refused")

		s.Withdraw()
		p.expect("^waiting: .*(holds no tokens|taken back)", "")
		p.stays(s, "^connected|^published|^refused")
		s.Issue(time.Hour)
		p.expect("^published", "refused")
	})
}

// The volume of a StatefulSet has a folder for each pod, and no link of its own in it.
func TestTheExamplesFollowAFolderInAProjectedVolume(t *testing.T) {
	eachExample(t, func(t *testing.T, e example) {
		s := stage.Open(t, time.Hour, stage.Options{Projected: true})
		received := s.Listen()
		p := start(t, e, s)
		p.expect("^published 1$", "not connected|refused")
		p.goesOn(e, s, received)
	})
}

// A pod of a StatefulSet may start before its grant is served: its folder comes later.
func TestTheExamplesWaitForTheirFolder(t *testing.T) {
	eachExample(t, func(t *testing.T, e example) {
		s := stage.Open(t, time.Hour, stage.Options{Projected: true})
		if err := os.Remove(s.Folder); err != nil {
			t.Fatal(err)
		}
		p := start(t, e, s)
		p.expect("^waiting: ", "")
		s.Issue(time.Hour)
		p.expect("^published 1$", "refused")
	})
}

// Whoever can come between client and broker has a certificate that everybody trusts, but for another name.
func TestTheExamplesGiveNoTokenToAnotherHost(t *testing.T) {
	eachExample(t, func(t *testing.T, e example) {
		s := stage.Open(t, time.Hour, stage.Options{CertificateFor: "elsewhere.example.com"})
		p := start(t, e, s)
		p.expect("^not (connected|published)", "^connected|^published|refused")
		p.stays(s, "^connected|^published|^refused")
		if tries := s.Cloud.Connects(); tries > 0 {
			t.Errorf("the broker saw %d CONNECTs", tries)
		}
	})
}

// The clients of a group compose their ids alike, in whatever language, with room for a pod's name or hardly any.
func TestTheExamplesComposeTheSameClientIDs(t *testing.T) {
	const podName = "a-pod.with-a-name-of-more-than-sixty-four-characters-5d8f7b9c6d-x2x4z"
	eachExample(t, func(t *testing.T, e example) {
		if !e.uploads {
			t.Skip("mosquitto_pub is told its client id")
		}
		for _, group := range []string{"GID_stage", "GID_" + strings.Repeat("g", 53)} {
			t.Run(fmt.Sprintf("a group id of %d characters", len(group)), func(t *testing.T) {
				want, err := mqttcred.Credentials{GroupID: group}.ClientIDFor(podName)
				if err != nil {
					t.Fatal(err)
				}
				s := stage.Open(t, time.Hour, stage.Options{GroupID: group})
				e.environment = []string{"POD_NAME=" + podName}
				start(t, e, s).expect("^published 1$", "not connected|refused")
				if diff := cmp.Diff([]string{want}, s.Cloud.Clients()); diff != "" {
					t.Errorf("clients (-want +got):\n%s", diff)
				}
			})
		}
	})
}

// A program that only knows its environment cannot go on with new tokens. It must end when the old ones do, and go on when
// it is started again.
func TestAnEnvironmentLastsAsLongAsItsTokens(t *testing.T) {
	t.Parallel()
	s := stage.New(t, time.Hour)
	legacy := func() example {
		return example{command: []string{"go", "run", "./examples/env"}, environment: s.Environment()}
	}
	p := start(t, legacy(), s)
	p.expect("^published 1$", "^not ")
	s.Issue(time.Hour)
	s.RevokeAllButLast()
	p.expect("^not (connected|published)", "")
	p.stays(s, "^connected|^published")
	start(t, legacy(), s).expect("^published 1$", "^not ")

	s.Withdraw()
	held := start(t, legacy(), s)
	held.expect("^waiting: the tokens were taken back", "^not |^connected")
	held.stays(s, "^connected|^published")
}

func await(t *testing.T, received <-chan string) {
	t.Helper()
	select {
	case <-received:
	case <-time.After(soon):
		t.Fatal("no message arrived")
	}
}

func drain(received <-chan string) {
	for {
		select {
		case <-received:
		default:
			return
		}
	}
}

func TestEveryExampleHasAManifest(t *testing.T) {
	folders, err := filepath.Glob(filepath.Join(apiserver.Root(), "examples", "*"))
	if err != nil || len(folders) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	for _, folder := range folders {
		if _, err := os.Stat(filepath.Join(folder, "manifest.yaml")); err != nil {
			t.Error(err)
		}
	}
}
