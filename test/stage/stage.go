// Package stage is a broker and a mounted token Secret that the broker's service has issued the tokens of: what a client
// library has to cope with, without a cluster.
package stage

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/credsecret"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/simulator"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/simulator/broker"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/simulator/state"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/topic"
	"github.com/mqtt-token-operator/mqtt-token-operator/test/device"
)

// Names of what the tokens are for.
const (
	InstanceID = "post-cn-stage"
	ClientID   = "GID_stage@@@client"
	// Topic is what the client may publish to and subscribe to.
	Topic = "stage/state"

	keyID        = "stage-key"
	region       = "cn-hangzhou"
	answerWithin = 10 * time.Second
)

// Stage is a simulator and a mounted Secret.
type Stage struct {
	Cloud *simulator.Simulator
	device.Volume

	t       *testing.T
	layout  credsecret.Layout
	issued  []token.Value // the client's tokens
	record  credsecret.Record
	renewAt time.Time
}

// Options say what is unusual about a stage.
type Options struct {
	// GroupID is for a grant of a whole group: its Secret has no client id.
	GroupID string
	// Projected has the Secret in a folder of a projected volume.
	Projected bool
	// CertificateFor is the only name in the broker's certificate; empty: its own names.
	CertificateFor string
}

// New starts a simulator, and mounts the Secret of a client with tokens that last for so long.
func New(t *testing.T, validity time.Duration) *Stage {
	t.Helper()
	return Open(t, validity, Options{})
}

// Open is New with something unusual.
func Open(t *testing.T, validity time.Duration, o Options) *Stage {
	t.Helper()
	groupID, clientID := "GID_stage", ClientID
	if o.GroupID != "" {
		groupID, clientID = o.GroupID, ""
	}
	names := simulator.DefaultNames()
	if o.CertificateFor != "" {
		names = []string{o.CertificateFor}
	}
	cloud, err := simulator.Start(t.Context(), simulator.Options{
		Accounts:  []state.Account{{ID: "stage", Keys: []state.Key{{ID: keyID, Secret: token.NewValue("stage-secret")}}}},
		Instances: []state.Instance{{ID: InstanceID, Region: region, Account: "stage"}},
		Names:     names,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cloud.Close(); err != nil {
			t.Error(err)
		}
	})
	host, port, err := net.SplitHostPort(cloud.BrokerAddress(broker.TLS))
	if err != nil {
		t.Fatal(err)
	}
	number, err := strconv.ParseInt(port, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	s := &Stage{
		t: t, Cloud: cloud, Volume: device.Volume{Folder: filepath.Join(t.TempDir(), "mqtt"), Projected: o.Projected},
		layout: credsecret.Layout{
			Namespace: "stage", Name: "client", GrantName: "client", GrantUID: "uid", ClusterID: "cluster",
			InstanceID: InstanceID, InstanceKey: "stage/stage", InstanceUID: "uid", KeyID: keyID,
			ClientID: clientID, GroupID: groupID,
			Broker: credsecret.Broker{Host: host, TLSPort: int32(number), WSSPort: 443, CA: string(cloud.CAPEM())},
		},
	}
	s.Issue(validity)
	return s
}

// Issue has the service issue new tokens, and changes the mounted files as a renewal does.
func (s *Stage) Issue(validity time.Duration) {
	s.t.Helper()
	scope, err := token.NewScope(token.PublishSubscribe, topic.MustParse(Topic))
	if err != nil {
		s.t.Fatal(err)
	}
	now := s.Cloud.State().Now().Truncate(time.Second)
	expires := now.Add(validity)
	value := s.apply("R,W", expires)
	s.issued = append(s.issued, value)
	s.lay(credsecret.Record{Tokens: []credsecret.Issued{{Scope: scope, Value: value, Issued: now, Expires: expires}}}, expires)
}

func (s *Stage) apply(actions string, expires time.Time) token.Value {
	s.t.Helper()
	value, err := s.Cloud.State().Apply(state.Caller{KeyID: keyID, InstanceID: InstanceID}, state.Request{
		Resources: Topic, Actions: actions, Expires: expires,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return value
}

// Listen returns what arrives at the topic from now on, by a client with a token of its own.
func (s *Stage) Listen() <-chan string {
	s.t.Helper()
	value := s.apply("R", s.Cloud.State().Now().Add(time.Hour))
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(s.Cloud.CAPEM())
	received := make(chan string, 256)
	client := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("mqtts://" + s.Cloud.BrokerAddress(broker.TLS)).
		SetClientID("GID_stage@@@listener").SetUsername(credsecret.Username(keyID, InstanceID)).
		SetPassword(credsecret.Password(token.Subscribe, value).Reveal()).
		SetTLSConfig(&tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}))
	for _, answer := range []func() mqtt.Token{client.Connect, func() mqtt.Token {
		return client.Subscribe(Topic, 1, func(_ mqtt.Client, m mqtt.Message) { received <- string(m.Payload()) })
	}} {
		if done := answer(); !done.WaitTimeout(answerWithin) || done.Error() != nil {
			s.t.Fatalf("listening: %v", done.Error())
		}
	}
	s.t.Cleanup(func() { client.Disconnect(0) })
	return received
}

// Withdraw revokes the client's tokens and takes them out of the files, as a hold does.
func (s *Stage) Withdraw() {
	s.t.Helper()
	s.lay(credsecret.Record{}, time.Time{})
	s.Revoke()
}

// Revoke revokes the client's tokens and leaves the files as they are.
func (s *Stage) Revoke() {
	s.revoke(s.issued)
}

// RevokeAllButLast revokes those that a renewal has replaced.
func (s *Stage) RevokeAllButLast() { s.revoke(s.issued[:len(s.issued)-1]) }

func (s *Stage) revoke(values []token.Value) {
	for _, value := range values {
		s.Cloud.State().RevokeByID(state.IDOf(value))
	}
}

// Secrets are the texts of the client's tokens, which nobody may print.
func (s *Stage) Secrets() []string {
	var texts []string
	for _, value := range s.issued {
		texts = append(texts, value.Reveal())
	}
	return texts
}

// Template has the Secret carry a file that is made of a template, from the next tokens on.
func (s *Stage) Template(name, text string) { s.layout.Templates = map[string]string{name: text} }

// Environment is what a Secret of format Env with the same tokens makes of a program's environment.
func (s *Stage) Environment() []string {
	s.t.Helper()
	layout := s.layout
	layout.Env = true
	secret, err := layout.Render(s.record, credsecret.Facts{}, s.renewAt)
	if err != nil {
		s.t.Fatal(err)
	}
	var environment []string
	for name, value := range secret.Data {
		environment = append(environment, name+"="+string(value))
	}
	return environment
}

func (s *Stage) lay(record credsecret.Record, renewAt time.Time) {
	s.t.Helper()
	s.record, s.renewAt = record, renewAt
	secret, err := s.layout.Render(record, credsecret.Facts{}, renewAt)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := s.Lay(secret.Data); err != nil {
		s.t.Fatal(err)
	}
}
