package probe_test

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/probe"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/simulator"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/simulator/broker"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/simulator/state"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
)

const (
	instance, secret = "post-cn-probe", "probe-secret-canary"
	first, second    = "LTAI-first", "LTAI-second"
	role             = "acs:ram::plant:role/mqtt"
)

// TestWhichKeyTheUsernameMustCarry asks the simulator's broker under each hypothesis.
func TestWhichKeyTheUsernameMustCarry(t *testing.T) {
	for sentence, tc := range map[string]struct {
		switches  state.Switches
		temporary bool // a temporary key applies
		change    func(*probe.Target)
		want      string // empty: admitted
	}{
		"any key of the account, the issuer's":                         {},
		"any key of the account, another":                              {change: as(second)},
		"the issuer's key only, and it is":                             {switches: state.Switches{IssuerKeyOnly: true}},
		"the issuer's key only, and it is not":                         {switches: state.Switches{IssuerKeyOnly: true}, change: as(second), want: "CONNECT: not authorized (code 5)"},
		"any key of the account, a lasting one for a temporary issuer": {temporary: true, change: as(first)},
		"the issuer's key only, and it is temporary":                   {switches: state.Switches{IssuerKeyOnly: true}, temporary: true},
		"the issuer's key only, and it was temporary":                  {switches: state.Switches{IssuerKeyOnly: true}, temporary: true, change: as(first), want: "CONNECT: not authorized (code 5)"},
		"a key that nobody knows":                                      {change: as("LTAI-unknown"), want: "CONNECT: not authorized (code 5)"},
		"a token that is none":                                         {change: func(p *probe.Target) { p.Password = token.NewValue("RW|nonsense") }, want: "CONNECT: not authorized (code 5)"},
		"another topic":                                                {change: func(p *probe.Target) { p.Topic = "elsewhere" }, want: "SUBSCRIBE: "},
		"a client id that the broker does not take":                    {change: func(p *probe.Target) { p.ClientID = "nobody" }, want: "CONNECT: "},
		"a certificate that is not trusted":                            {change: func(p *probe.Target) { p.CA = nil }, want: "reach: the broker's certificate is not trusted"},
		"a CA that is none":                                            {change: func(p *probe.Target) { p.CA = []byte("x") }, want: "reach: the caBundle holds no certificate"},
		"a port where nobody listens":                                  {change: func(p *probe.Target) { p.Port = 1 }, want: "reach: no connection"},
		"a name that nobody knows":                                     {change: func(p *probe.Target) { p.Host = "broker.invalid" }, want: "reach: the broker's name is not known"},
	} {
		t.Run(sentence, func(t *testing.T) {
			target, issuer := issued(t, tc.switches, tc.temporary)
			if tc.change == nil && tc.temporary {
				as(issuer)(&target)
			}
			if tc.change != nil {
				tc.change(&target)
			}
			err := probe.Ask(t.Context(), target)
			switch {
			case tc.want == "" && err != nil:
				t.Error(err)
			case tc.want != "" && (err == nil || !strings.HasPrefix(err.Error(), tc.want)):
				t.Errorf("got %v, want %q", err, tc.want)
			}
			if text := fmt.Sprintf("%v %+v", err, target); strings.Contains(text, target.Password.Reveal()) {
				t.Error("the password is in what is printed")
			}
		})
	}
}

func as(keyID string) func(*probe.Target) {
	return func(p *probe.Target) { p.Username = "Token|" + keyID + "|" + instance }
}

// issued starts a simulator, and has a token issued for a client of it.
func issued(t *testing.T, switches state.Switches, temporary bool) (target probe.Target, issuer string) {
	t.Helper()
	cloud, err := simulator.Start(context.WithoutCancel(t.Context()), simulator.Options{
		Accounts: []state.Account{{ID: "plant", Roles: []state.Role{{ARN: role}}, Keys: []state.Key{
			{ID: first, Secret: token.NewValue(secret)}, {ID: second, Secret: token.NewValue(secret + "2")},
		}}},
		Instances: []state.Instance{{ID: instance, Region: "cn-hangzhou", Account: "plant"}}, Switches: switches,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cloud.Close() })
	issuer = first
	if temporary {
		session, err := cloud.State().AssumeRole(first, "", state.SessionRequest{RoleARN: role, Name: "probe", Life: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		issuer = session.Key.ID
	}
	value, err := cloud.State().Apply(state.Caller{KeyID: issuer, InstanceID: instance},
		state.Request{Actions: "R,W", Resources: "probe/topic", Expires: time.Now().Add(2 * time.Minute)})
	if err != nil {
		t.Fatal(err)
	}
	host, port, err := net.SplitHostPort(cloud.BrokerAddress(broker.TLS))
	if err != nil {
		t.Fatal(err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	target = probe.Target{
		Host: host, Port: int32(number), CA: cloud.CAPEM(), ClientID: "GID_probe@@@operator",
		Password: token.NewValue("RW|" + value.Reveal()), Topic: "probe/topic",
	}
	as(first)(&target)
	return target, issuer
}
