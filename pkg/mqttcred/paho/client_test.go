package paho_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/google/go-cmp/cmp"

	"github.com/mqtt-token-operator/mqtt-token-operator/pkg/mqttcred"
	"github.com/mqtt-token-operator/mqtt-token-operator/pkg/mqttcred/paho"
	"github.com/mqtt-token-operator/mqtt-token-operator/test/stage"
)

// limit is for what should come soon.
const limit = 15 * time.Second

// run is a client that runs, and what it told.
type run struct {
	t      *testing.T
	client *paho.Client
	events chan mqttcred.Event

	mu   sync.Mutex
	told []string
}

func start(t *testing.T, s *stage.Stage, change ...func(*paho.Options)) *run {
	t.Helper()
	source, err := mqttcred.Open(s.Folder)
	if err != nil {
		t.Fatal(err)
	}
	r := &run{t: t, events: make(chan mqttcred.Event, 64)}
	o := paho.Options{OnEvent: func(e mqttcred.Event) {
		r.mu.Lock()
		r.told = append(r.told, fmt.Sprintf("%v %+v %#v", e, e, e))
		r.mu.Unlock()
		r.events <- e
	}}
	for _, c := range change {
		c(&o)
	}
	r.client = paho.New(source, o)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.client.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-ended
		if err := source.Close(); err != nil {
			t.Error(err)
		}
		r.checkForSecrets()
	})
	return r
}

// checkForSecrets looks for the text of a token in what was told.
func (r *run) checkForSecrets() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, line := range r.told {
		if strings.Contains(line, "RW|") || strings.Contains(line, `Token:"`) {
			r.t.Errorf("an event tells a secret: %s", line)
		}
	}
}

// expect waits for an event, and fails on one that must not come before.
func (r *run) expect(kind mqttcred.EventKind, not ...mqttcred.EventKind) mqttcred.Event {
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

func (r *run) publish() error {
	ctx, cancel := context.WithTimeout(r.t.Context(), limit)
	defer cancel()
	return r.client.Publish(ctx, stage.Topic, 1, false, "hello")
}

func TestAClientLivesOnItsFiles(t *testing.T) {
	s := stage.New(t, time.Hour)
	received := make(chan string, 8)
	r := start(t, s, func(o *paho.Options) {
		o.OnConnect = func(ctx context.Context, client mqtt.Client) error {
			return paho.Subscribe(ctx, client, stage.Topic, 1, func(_ mqtt.Client, m mqtt.Message) { received <- string(m.Payload()) })
		}
	})
	r.expect(mqttcred.Connected)
	if err := r.publish(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("hello", <-received); diff != "" {
		t.Errorf("message (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{stage.ClientID}, s.Cloud.Clients()); diff != "" {
		t.Errorf("clients (-want +got):\n%s", diff)
	}
}

func TestNewTokensAreUploadedOverTheOpenConnection(t *testing.T) {
	s := stage.New(t, time.Hour)
	r := start(t, s)
	r.expect(mqttcred.Connected)
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

func TestAClientWithDeadTokensStaysAwayUntilOthersCome(t *testing.T) {
	s := stage.New(t, time.Hour)
	r := start(t, s)
	r.expect(mqttcred.Connected)
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

func TestAClientWaitsWhileItsTokensAreTakenBack(t *testing.T) {
	s := stage.New(t, time.Hour)
	r := start(t, s)
	r.expect(mqttcred.Connected)
	s.Withdraw()
	r.expect(mqttcred.Disconnected)
	for e := r.expect(mqttcred.Waiting, mqttcred.Connected); !strings.Contains(e.Err.Error(), "taken back"); {
		e = r.expect(mqttcred.Waiting, mqttcred.Connected)
	}
	s.Issue(time.Hour)
	r.expect(mqttcred.Connected)
}

func TestAClientOfAGroupHasANameOfItsOwn(t *testing.T) {
	s := stage.NewGroup(t, "GID_stage", time.Hour)
	r := start(t, s, func(o *paho.Options) { o.Name = "pod-1" })
	r.expect(mqttcred.Connected)
	if err := r.publish(); err != nil { // the broker is through with the CONNECT then
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"GID_stage@@@pod-1"}, s.Cloud.Clients()); diff != "" {
		t.Errorf("clients (-want +got):\n%s", diff)
	}
}

func TestAClientOfAGroupWithoutANameSaysWhatIsMissing(t *testing.T) {
	r := start(t, stage.NewGroup(t, "GID_stage", time.Hour))
	if e := r.expect(mqttcred.Disconnected, mqttcred.Connected); !strings.Contains(e.Err.Error(), "needs a name of its own") {
		t.Error(e)
	}
}

func TestWhoeverPublishesWithoutAConnectionMayGiveUp(t *testing.T) {
	s := stage.New(t, time.Hour)
	s.Withdraw()
	r := start(t, s)
	r.expect(mqttcred.Waiting)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.client.Publish(ctx, stage.Topic, 1, false, "hello"); err == nil {
		t.Error("published without a connection")
	}
}

func TestAProviderReadsTheFilesEachTime(t *testing.T) {
	s := stage.New(t, time.Hour)
	source, err := mqttcred.Open(s.Folder)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = source.Close() }()
	provide := paho.CredentialsProvider(source)
	user, first := provide()
	if user != "Token|stage-key|"+stage.InstanceID || !strings.HasPrefix(first, "RW|") {
		t.Errorf("user %q, a password of %d characters", user, len(first))
	}
	used, err := source.Current()
	if err != nil {
		t.Fatal(err)
	}
	s.Issue(time.Hour)
	if _, err := source.Newer(t.Context(), used); err != nil {
		t.Fatal(err)
	}
	if _, second := provide(); second == first {
		t.Error("the password is the old one")
	}
	s.Withdraw()
	for {
		if _, err := source.Current(); err != nil {
			break
		}
	}
	if user, password := provide(); user != "" || password != "" {
		t.Error("it provides tokens that were taken back")
	}
}

func TestPrintingAClientHidesWhatItConnectsWith(t *testing.T) {
	s := stage.New(t, time.Hour)
	r := start(t, s)
	r.expect(mqttcred.Connected)
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
