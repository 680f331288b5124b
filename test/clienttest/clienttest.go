// Package clienttest is what a client that lives on a mounted Secret must do, whichever MQTT library it is made with.
package clienttest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mqtt-token-operator/mqtt-token-operator/pkg/mqttcred"
	"github.com/mqtt-token-operator/mqtt-token-operator/test/stage"
)

const (
	// limit is for what should come soon.
	limit   = 15 * time.Second
	message = "hello"
)

// Client is a client under test.
type Client interface {
	fmt.Formatter
	Run(ctx context.Context) error
}

// Options are what a test asks of a client.
type Options struct {
	Name    string
	OnEvent func(mqttcred.Event)
	// OnMessage takes what arrives at stage.Topic; nil: it does not subscribe.
	OnMessage func(string)
}

// Adapter makes clients, and has them publish to stage.Topic with QoS 1.
type Adapter[C Client] struct {
	New     func(*mqttcred.Source, Options) C
	Publish func(ctx context.Context, client C, message string) error
}

// Test holds an adapter to all of it.
func Test[C Client](t *testing.T, a Adapter[C]) {
	t.Helper()
	for sentence, test := range map[string]func(*testing.T, Adapter[C]){
		"it lives on its files":                              livesOnItsFiles[C],
		"new tokens are uploaded over the open connection":   uploads[C],
		"with dead tokens it stays away until others come":   staysAway[C],
		"it waits while its tokens are taken back":           waits[C],
		"in a group it has a name of its own":                hasAName[C],
		"without a name in a group it says what is missing":  missesAName[C],
		"whoever publishes without a connection may give up": letsGo[C],
		"it gives no token to another host":                  trustsNobodyElse[C],
		"printing it hides what it connects with":            hides[C],
	} {
		t.Run(sentence, func(t *testing.T) { test(t, a) })
	}
}

// run is a client that runs, and what it told.
type run[C Client] struct {
	t       *testing.T
	adapter Adapter[C]
	client  C
	events  chan mqttcred.Event

	mu   sync.Mutex
	told []string
}

func start[C Client](t *testing.T, a Adapter[C], s *stage.Stage, o Options) *run[C] {
	t.Helper()
	source, err := mqttcred.Open(s.Folder)
	if err != nil {
		t.Fatal(err)
	}
	r := &run[C]{t: t, adapter: a, events: make(chan mqttcred.Event, 64)}
	o.OnEvent = func(e mqttcred.Event) {
		r.mu.Lock()
		r.told = append(r.told, fmt.Sprintf("%v %+v %#v", e, e, e))
		r.mu.Unlock()
		r.events <- e
	}
	r.client = a.New(source, o)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.client.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("it ended with %v", err)
		}
		if err := source.Close(); err != nil {
			t.Error(err)
		}
		r.checkForSecrets(s)
	})
	return r
}

// connected starts a client of an ordinary Secret, and waits until it has a connection.
func connected[C Client](t *testing.T, a Adapter[C]) (*stage.Stage, *run[C]) {
	t.Helper()
	s := stage.New(t, time.Hour)
	r := start(t, a, s, Options{})
	r.expect(mqttcred.Connected)
	return s, r
}

// checkForSecrets looks for the text of a token in what was told.
func (r *run[C]) checkForSecrets(s *stage.Stage) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, line := range r.told {
		for _, secret := range s.Secrets() {
			if strings.Contains(line, secret) {
				r.t.Errorf("an event tells a secret, of %d characters", len(line))
			}
		}
	}
}

// expect waits for an event, and fails on one that must not come before.
func (r *run[C]) expect(kind mqttcred.EventKind, not ...mqttcred.EventKind) mqttcred.Event {
	r.t.Helper()
	timeout := time.After(limit)
	for {
		select {
		case e := <-r.events:
			if e.Kind == kind {
				return e
			}
			for _, wrong := range not {
				if e.Kind == wrong {
					r.t.Fatalf("%s before an event of kind %d", e, kind)
				}
			}
		case <-timeout:
			r.t.Fatalf("no event of kind %d", kind)
		}
	}
}

func (r *run[C]) publish() error {
	ctx, cancel := context.WithTimeout(r.t.Context(), limit)
	defer cancel()
	return r.adapter.Publish(ctx, r.client, message)
}

func livesOnItsFiles[C Client](t *testing.T, a Adapter[C]) {
	t.Helper()
	s := stage.New(t, time.Hour)
	received := make(chan string, 8)
	r := start(t, a, s, Options{OnMessage: func(m string) { received <- m }})
	r.expect(mqttcred.Connected)
	if err := r.publish(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(message, <-received); diff != "" {
		t.Errorf("message (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{stage.ClientID}, s.Cloud.Clients()); diff != "" {
		t.Errorf("clients (-want +got):\n%s", diff)
	}
}

func uploads[C Client](t *testing.T, a Adapter[C]) {
	t.Helper()
	s, r := connected(t, a)
	old := s.Cloud.State().Tokens()[0]
	s.Issue(time.Hour)
	r.expect(mqttcred.Uploaded, mqttcred.Disconnected)
	s.Cloud.State().RevokeByID(old.ID)
	if err := r.publish(); err != nil {
		t.Errorf("with the old token revoked: %v", err)
	}
	select {
	case e := <-r.events:
		t.Errorf("then: %s", e)
	default:
	}
}

func staysAway[C Client](t *testing.T, a Adapter[C]) {
	t.Helper()
	s, r := connected(t, a)
	s.Revoke()
	if e := r.expect(mqttcred.Disconnected); !strings.Contains(e.Err.Error(), "code 3") {
		t.Errorf("it was told %v", e.Err)
	}
	if e := r.expect(mqttcred.Waiting, mqttcred.Connected, mqttcred.Disconnected); !strings.Contains(e.Err.Error(), "tried again at") {
		t.Errorf("it waits for %v", e.Err)
	}
	s.Issue(time.Hour)
	r.expect(mqttcred.Connected)
	if err := r.publish(); err != nil {
		t.Error(err)
	}
}

func waits[C Client](t *testing.T, a Adapter[C]) {
	t.Helper()
	s, r := connected(t, a)
	s.Withdraw()
	r.expect(mqttcred.Disconnected)
	for e := r.expect(mqttcred.Waiting, mqttcred.Connected); !strings.Contains(e.Err.Error(), "taken back"); {
		e = r.expect(mqttcred.Waiting, mqttcred.Connected)
	}
	s.Issue(time.Hour)
	r.expect(mqttcred.Connected)
}

func hasAName[C Client](t *testing.T, a Adapter[C]) {
	t.Helper()
	s := stage.Open(t, time.Hour, stage.Options{GroupID: "GID_stage"})
	r := start(t, a, s, Options{Name: "pod-1"})
	r.expect(mqttcred.Connected)
	if err := r.publish(); err != nil { // the broker is through with the CONNECT then
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"GID_stage@@@pod-1"}, s.Cloud.Clients()); diff != "" {
		t.Errorf("clients (-want +got):\n%s", diff)
	}
}

func missesAName[C Client](t *testing.T, a Adapter[C]) {
	t.Helper()
	r := start(t, a, stage.Open(t, time.Hour, stage.Options{GroupID: "GID_stage"}), Options{})
	if e := r.expect(mqttcred.Disconnected, mqttcred.Connected); !strings.Contains(e.Err.Error(), "needs a name of its own") {
		t.Error(e)
	}
}

func letsGo[C Client](t *testing.T, a Adapter[C]) {
	t.Helper()
	s := stage.New(t, time.Hour)
	s.Withdraw()
	r := start(t, a, s, Options{})
	r.expect(mqttcred.Waiting)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := a.Publish(ctx, r.client, message); err == nil {
		t.Error("published without a connection")
	}
}

func trustsNobodyElse[C Client](t *testing.T, a Adapter[C]) {
	t.Helper()
	s := stage.Open(t, time.Hour, stage.Options{CertificateFor: "elsewhere.example.com"})
	r := start(t, a, s, Options{})
	if e := r.expect(mqttcred.Disconnected, mqttcred.Connected); !strings.Contains(e.Err.Error(), "certificate") {
		t.Error(e)
	}
	if tries := s.Cloud.Connects(); tries > 0 {
		t.Errorf("the broker saw %d CONNECTs", tries)
	}
}

func hides[C Client](t *testing.T, a Adapter[C]) {
	t.Helper()
	s, r := connected(t, a)
	if err := r.publish(); err != nil { // it holds a connection
		t.Fatal(err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		for _, secret := range s.Secrets() {
			text := fmt.Sprintf(verb, r.client)
			if strings.Contains(text, secret) || strings.Contains(text, fmt.Sprintf("%x", secret)) {
				t.Errorf("%s prints the secret", verb)
			}
		}
	}
}
