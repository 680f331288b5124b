// Package stage is a broker and a mounted token Secret that the broker's service has issued the tokens of: what a client
// library has to cope with, without a cluster.
package stage

import (
	"net"
	"path/filepath"
	"strconv"
	"testing"
	"time"

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

	keyID  = "stage-key"
	region = "cn-hangzhou"
)

// Stage is a simulator and a mounted Secret.
type Stage struct {
	Cloud *simulator.Simulator
	device.Volume

	t      *testing.T
	layout credsecret.Layout
}

// New starts a simulator, and mounts the Secret of a client with tokens that last for so long.
func New(t *testing.T, validity time.Duration) *Stage {
	t.Helper()
	return open(t, ClientID, validity)
}

// NewGroup is New for a Secret without a device id.
func NewGroup(t *testing.T, validity time.Duration) *Stage {
	t.Helper()
	return open(t, "", validity)
}

func open(t *testing.T, clientID string, validity time.Duration) *Stage {
	t.Helper()
	cloud, err := simulator.Start(t.Context(), simulator.Options{
		Accounts:  []state.Account{{ID: "stage", Keys: []state.Key{{ID: keyID, Secret: token.NewValue("stage-secret")}}}},
		Instances: []state.Instance{{ID: InstanceID, Region: region, Account: "stage"}},
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
		t: t, Cloud: cloud, Volume: device.Volume{Folder: filepath.Join(t.TempDir(), "mqtt")},
		layout: credsecret.Layout{
			Namespace: "stage", Name: "client", GrantName: "client", GrantUID: "uid", ClusterID: "cluster",
			InstanceID: InstanceID, InstanceKey: "stage/stage", InstanceUID: "uid", KeyID: keyID,
			ClientID: clientID, GroupID: "GID_stage",
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
	value, err := s.Cloud.State().Apply(state.Caller{KeyID: keyID, InstanceID: InstanceID}, state.Request{
		Resources: Topic, Actions: "R,W", Expires: expires,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.lay(credsecret.Record{Tokens: []credsecret.Issued{{Scope: scope, Value: value, Issued: now, Expires: expires}}}, expires)
}

// Withdraw revokes every token and takes them out of the files, as a hold does.
func (s *Stage) Withdraw() {
	s.t.Helper()
	s.lay(credsecret.Record{}, time.Time{})
	s.Revoke()
}

// Revoke revokes every token and leaves the files as they are.
func (s *Stage) Revoke() {
	for _, held := range s.Cloud.State().Tokens() {
		s.Cloud.State().RevokeByID(held.ID)
	}
}

func (s *Stage) lay(record credsecret.Record, renewAt time.Time) {
	s.t.Helper()
	secret, err := s.layout.Render(record, credsecret.Facts{}, renewAt)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := s.Lay(secret.Data); err != nil {
		s.t.Fatal(err)
	}
}
