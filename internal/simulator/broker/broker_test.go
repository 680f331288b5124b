package broker_test

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	testclock "k8s.io/utils/clock/testing"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/simulator/broker"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/simulator/state"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
)

const (
	instance   = "post-cn-a"
	username   = "Token|key-a|" + instance
	deviceID   = "GID_line@@@press-07"
	invalid    = "$SYS/tokenInvalidNotice"
	uploadName = "$SYS/uploadToken"
)

type bench struct {
	issuer *state.State
	clock  *testclock.FakeClock
	broker *broker.Broker
	tls    *tls.Config
}

func open(t *testing.T, modify ...func(*state.Switches)) *bench {
	t.Helper()
	b := &bench{clock: testclock.NewFakeClock(time.Date(2031, 3, 5, 7, 11, 13, 0, time.UTC))}
	options := state.Options{
		Clock: b.clock,
		Accounts: []state.Account{
			{ID: "a", Keys: []state.Key{{ID: "key-a", Secret: token.NewValue("s")}, {ID: "key-a2", Secret: token.NewValue("s")}}},
			{ID: "b", Keys: []state.Key{{ID: "key-b", Secret: token.NewValue("s")}}},
		},
		Instances: []state.Instance{{ID: instance, Account: "a"}, {ID: "post-cn-other", Account: "a"}},
	}
	for _, m := range modify {
		m(&options.Switches)
	}
	var err error
	if b.issuer, err = state.New(options); err != nil {
		t.Fatal(err)
	}
	certified := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(certified.Close)
	b.tls = certified.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	b.tls.NextProtos = nil
	addresses := map[broker.Kind]string{}
	for _, kind := range broker.Kinds() {
		addresses[kind] = "127.0.0.1:0"
	}
	b.broker, err = broker.Start(t.Context(), broker.Options{
		Issuer: b.issuer, Clock: b.clock, Addresses: addresses,
		TLS: &tls.Config{Certificates: certified.TLS.Certificates, MinVersion: tls.VersionTLS12},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.broker.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// issue makes a token that ends in an hour.
func (b *bench) issue(t *testing.T, actions, resources string) string {
	t.Helper()
	text, err := b.issuer.Apply(state.Caller{KeyID: "key-a", InstanceID: instance},
		state.Request{Actions: actions, Resources: resources, Expires: b.issuer.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	return text.Reveal()
}

func (b *bench) dialer(password string) dialer {
	return dialer{
		kind: broker.TCP, address: b.broker.Address(broker.TCP), tls: b.tls,
		clientID: deviceID, username: username, password: password,
	}
}

func upload(letters, text string) string {
	payload, _ := json.Marshal(map[string]string{"token": text, "type": letters})
	return string(payload)
}

// forBoth runs a test for each protocol version, each with a broker of its own.
func forBoth(t *testing.T, test func(*testing.T, string)) {
	t.Helper()
	for version := range (dialer{}).versions() {
		t.Run(version, func(t *testing.T) { test(t, version) })
	}
}

func (d dialer) must(t *testing.T, version string) *peer {
	t.Helper()
	p, err := d.versions()[version](t)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestMessagesTravelOnEveryWay(t *testing.T) {
	b := open(t)
	for _, kind := range broker.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			forBoth(t, func(t *testing.T, version string) {
				d := b.dialer("R|" + b.issue(t, "R", "f/+/x,f/#") + "|W|" + b.issue(t, "W", "f/a/x"))
				d.kind, d.address = kind, b.broker.Address(kind)
				p := d.must(t, version)
				if err := p.subscribe("f/#"); err != nil {
					t.Fatal(err)
				}
				for qos := byte(0); qos <= 2; qos++ {
					payload := strings.Repeat("x", 5000) + fmt.Sprint(qos)
					if err := p.publish("f/a/x", payload, qos); err != nil {
						t.Fatal(err)
					}
					if diff := cmp.Diff(message{Topic: "f/a/x", Payload: payload}, p.next(t)); diff != "" {
						t.Error(diff)
					}
				}
				if diff := cmp.Diff([]string{deviceID}, b.broker.Clients()); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}

func TestConnectIsRefused(t *testing.T) {
	type codes struct{ v3, v5 byte }
	malformed, unauthorised, badID := codes{v3: 4, v5: 0x86}, codes{v3: 5, v5: 0x87}, codes{v3: 2, v5: 0x85}
	for sentence, tc := range map[string]struct {
		modify func(*state.Switches)
		change func(*testing.T, *bench, *dialer)
		want   codes
	}{
		"a username of another mode":     {change: func(_ *testing.T, _ *bench, d *dialer) { d.username = "Signature|key-a|" + instance }, want: malformed},
		"a username of two parts":        {change: func(_ *testing.T, _ *bench, d *dialer) { d.username = "Token|key-a" }, want: malformed},
		"a password without a type":      {change: func(_ *testing.T, _ *bench, d *dialer) { d.password = d.password[3:] }, want: malformed},
		"no password":                    {change: func(_ *testing.T, _ *bench, d *dialer) { d.password = "" }, want: malformed},
		"two tokens of a type":           {change: func(_ *testing.T, _ *bench, d *dialer) { d.password += "|" + d.password }, want: malformed},
		"the API's word for both":        {change: func(_ *testing.T, _ *bench, d *dialer) { d.password = "R,W" + d.password[2:] }, want: malformed},
		"a token that nobody issued":     {change: func(_ *testing.T, _ *bench, d *dialer) { d.password = "RW|forged" }, want: unauthorised},
		"one valid token, one forged":    {change: func(_ *testing.T, _ *bench, d *dialer) { d.password += "|R|forged" }, want: unauthorised},
		"a token of another type":        {change: func(_ *testing.T, _ *bench, d *dialer) { d.password = d.password[1:] }, want: unauthorised},
		"an expired token":               {change: func(_ *testing.T, b *bench, _ *dialer) { b.clock.Step(time.Hour) }, want: unauthorised},
		"a revoked token":                {change: func(_ *testing.T, b *bench, _ *dialer) { revokeAll(b) }, want: unauthorised},
		"a revoked token, cut when used": {modify: func(s *state.Switches) { s.CutOnNextUse = true }, change: func(_ *testing.T, b *bench, _ *dialer) { revokeAll(b) }, want: unauthorised},
		"another instance":               {change: func(_ *testing.T, _ *bench, d *dialer) { d.username = "Token|key-a|post-cn-other" }, want: unauthorised},
		"a key of another account":       {change: func(_ *testing.T, _ *bench, d *dialer) { d.username = "Token|key-b|" + instance }, want: unauthorised},
		"a key that does not exist":      {change: func(_ *testing.T, _ *bench, d *dialer) { d.username = "Token|nobody|" + instance }, want: unauthorised},
		"a key that is not the issuer": {
			modify: func(s *state.Switches) { s.IssuerKeyOnly = true },
			change: func(_ *testing.T, _ *bench, d *dialer) { d.username = "Token|key-a2|" + instance }, want: unauthorised,
		},
		"a client id without a device": {change: func(_ *testing.T, _ *bench, d *dialer) { d.clientID = "GID_line" }, want: badID},
		"a client id over 64":          {change: func(_ *testing.T, _ *bench, d *dialer) { d.clientID = deviceID + strings.Repeat("x", 64) }, want: badID},
		"a client id with a slash":     {change: func(_ *testing.T, _ *bench, d *dialer) { d.clientID += "/x" }, want: badID},
		"a group without its prefix":   {change: func(_ *testing.T, _ *bench, d *dialer) { d.clientID = "line_seven@@@x" }, want: badID},
	} {
		t.Run(sentence, func(t *testing.T) {
			if tc.modify == nil {
				tc.modify = func(*state.Switches) {}
			}
			b := open(t, tc.modify)
			d := b.dialer("RW|" + b.issue(t, "R,W", "f/#"))
			tc.change(t, b, &d)
			for version, connect := range d.versions() {
				want := map[string]byte{"MQTT 3.1.1": tc.want.v3, "MQTT 5": tc.want.v5}[version]
				_, err := connect(t)
				var no refused
				if !errors.As(err, &no) || no.code != want {
					t.Errorf("%s: %v (code %#x), want code %#x", version, err, no.code, want)
				}
			}
		})
	}
}

func revokeAll(b *bench) {
	for _, held := range b.issuer.Tokens() {
		b.issuer.RevokeByID(held.ID)
	}
}

func TestAnotherKeyOfTheAccountIsAdmitted(t *testing.T) {
	forBoth(t, func(t *testing.T, version string) {
		b := open(t)
		d := b.dialer("RW|" + b.issue(t, "R,W", "f/#"))
		d.username = "Token|key-a2|" + instance
		d.must(t, version)
	})
}

func TestUnpermittedUseEndsTheSession(t *testing.T) {
	for sentence, tc := range map[string]struct {
		actions, letters string
		act              func(*peer) error
		want             string
	}{
		"a publish to another topic":      {actions: "R,W", letters: "RW", act: func(p *peer) error { return p.publish("g/a", "x", 0) }, want: `{"code":4,"type":"RW"}`},
		"the same, acknowledged":          {actions: "W", letters: "W", act: func(p *peer) error { _ = p.publish("g/a", "x", 1); return nil }, want: `{"code":4,"type":"W"}`},
		"a publish where it may read":     {actions: "R", letters: "R", act: func(p *peer) error { return p.publish("f/a", "x", 0) }, want: `{"code":5,"type":"W"}`},
		"a subscription to another topic": {actions: "R", letters: "R", act: func(p *peer) error { _ = p.subscribe("g/a"); return nil }, want: `{"code":4,"type":"R"}`},
		"a subscription that is too wide": {actions: "R", letters: "R", act: func(p *peer) error { _ = p.subscribe("#"); return nil }, want: `{"code":4,"type":"R"}`},
		"a subscription where it writes":  {actions: "W", letters: "W", act: func(p *peer) error { _ = p.subscribe("f/#"); return nil }, want: `{"code":5,"type":"R"}`},
		"a shared subscription":           {actions: "R", letters: "R", act: func(p *peer) error { _ = p.subscribe("$share/s/f/a"); return nil }, want: `{"code":4,"type":"R"}`},
		"a publish to a system topic":     {actions: "R,W", letters: "RW", act: func(p *peer) error { return p.publish("$SYS/tokenInvalidNotice", "x", 0) }, want: `{"code":4,"type":"RW"}`},
		"a forged upload":                 {actions: "R,W", letters: "RW", act: func(p *peer) error { return p.publish(uploadName, upload("RW", "forged"), 0) }, want: `{"code":1,"type":"RW"}`},
		"an upload that is not JSON":      {actions: "R,W", letters: "RW", act: func(p *peer) error { return p.publish(uploadName, "RW|text", 0) }, want: `{"code":1,"type":"RW"}`},
	} {
		t.Run(sentence, func(t *testing.T) {
			b := open(t)
			password := tc.letters + "|" + b.issue(t, tc.actions, "f/#")
			forBoth(t, func(t *testing.T, version string) {
				p := b.dialer(password).must(t, version)
				go func() { _ = tc.act(p) }() // an acknowledgement never comes
				if diff := cmp.Diff(message{Topic: invalid, Payload: tc.want}, p.next(t)); diff != "" {
					t.Error(diff)
				}
				p.awaitGone(t)
			})
		})
	}
}

func TestTokensEnd(t *testing.T) {
	for sentence, tc := range map[string]struct {
		modify func(*state.Switches)
		act    func(*testing.T, *bench, *peer)
		want   string
	}{
		"the injected clock reaches the expiry": {
			modify: func(s *state.Switches) { s.NoExpireNotice = true },
			act:    func(_ *testing.T, b *bench, _ *peer) { b.clock.Step(time.Hour) },
			want:   `{"code":2,"type":"RW"}`,
		},
		"the simulator's clock is advanced": {
			modify: func(s *state.Switches) { s.NoExpireNotice = true },
			act:    func(_ *testing.T, b *bench, _ *peer) { _ = b.issuer.Advance(time.Hour) },
			want:   `{"code":2,"type":"RW"}`,
		},
		"a revocation cuts an idle client": {
			act:  func(_ *testing.T, b *bench, _ *peer) { revokeAll(b) },
			want: `{"code":3,"type":"RW"}`,
		},
		"a revocation cuts after a delay": {
			modify: func(s *state.Switches) { s.RevocationDelay = time.Minute },
			act: func(t *testing.T, b *bench, p *peer) {
				revokeAll(b)
				p.alive(t, "f/a")
				b.clock.Step(time.Minute)
			},
			want: `{"code":3,"type":"RW"}`,
		},
		"a revocation cuts at the next publish": {
			modify: func(s *state.Switches) { s.CutOnNextUse = true },
			act: func(_ *testing.T, b *bench, p *peer) {
				revokeAll(b)
				b.clock.Step(time.Minute)
				_ = p.publish("f/a", "x", 0)
			},
			want: `{"code":3,"type":"RW"}`,
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			if tc.modify == nil {
				tc.modify = func(*state.Switches) {}
			}
			forBoth(t, func(t *testing.T, version string) {
				b := open(t, tc.modify)
				p := b.dialer("RW|"+b.issue(t, "R,W", "f/#")).must(t, version)
				p.alive(t, "f/a")
				tc.act(t, b, p)
				if diff := cmp.Diff(message{Topic: invalid, Payload: tc.want}, p.next(t)); diff != "" {
					t.Error(diff)
				}
				p.awaitGone(t)
			})
		})
	}
}

func TestAnIdleClientSurvivesARevocationThatCutsOnUse(t *testing.T) {
	b := open(t, func(s *state.Switches) { s.CutOnNextUse = true })
	receiver := b.dialer("RW|"+b.issue(t, "R,W", "f/#")).must(t, "MQTT 5")
	if err := receiver.subscribe("f/#"); err != nil {
		t.Fatal(err)
	}
	revokeAll(b)
	b.clock.Step(time.Minute)
	d := b.dialer("W|" + b.issue(t, "W", "f/#"))
	d.clientID = "GID_line@@@other"
	d.must(t, "MQTT 5").alive(t, "f/a")
	if got := receiver.next(t); got.Topic != "f/a" {
		t.Error(got)
	}
}

func TestUploadCarriesASessionPastTheOldExpiry(t *testing.T) {
	for qos := byte(0); qos <= 2; qos++ {
		t.Run(fmt.Sprintf("QoS %d", qos), func(t *testing.T) {
			forBoth(t, func(t *testing.T, version string) {
				b := open(t, func(s *state.Switches) { s.NoExpireNotice = true })
				p := b.dialer("RW|"+b.issue(t, "R,W", "f/#")).must(t, version)
				p.alive(t, "f/a")
				b.clock.Step(50 * time.Minute)
				if err := p.publish(uploadName, upload("RW", b.issue(t, "R,W", "g/#")), qos); err != nil {
					t.Fatal(err)
				}
				p.alive(t, "g/a")
				b.clock.Step(50 * time.Minute)
				p.alive(t, "g/a")
				b.clock.Step(10 * time.Minute)
				if diff := cmp.Diff(message{Topic: invalid, Payload: `{"code":2,"type":"RW"}`}, p.next(t)); diff != "" {
					t.Error(diff)
				}
				p.awaitGone(t)
			})
		})
	}
}

func TestUploadsReachNoSubscriber(t *testing.T) {
	b := open(t)
	p := b.dialer("RW|"+b.issue(t, "R,W", "#")).must(t, "MQTT 5")
	if err := p.subscribe("#"); err != nil {
		t.Fatal(err)
	}
	if err := p.publish(uploadName, upload("RW", b.issue(t, "R,W", "#")), 1); err != nil {
		t.Fatal(err)
	}
	p.alive(t, "f/a")
	if got := p.next(t); got.Topic != "f/a" {
		t.Error(got.Topic)
	}
}

func TestExpiryIsAnnouncedOnce(t *testing.T) {
	forBoth(t, func(t *testing.T, version string) {
		b := open(t)
		ends := b.issuer.Now().Add(time.Hour).UnixMilli()
		p := b.dialer("R|"+b.issue(t, "R", "f/#")+"|W|"+b.issue(t, "W", "f/#")).must(t, version)
		p.alive(t, "f/a")
		b.clock.Step(55 * time.Minute)
		for _, letters := range []string{"R", "W"} {
			want := message{Topic: "$SYS/tokenExpireNotice", Payload: fmt.Sprintf(`{"expireTime":%d,"type":%q}`, ends, letters)}
			if diff := cmp.Diff(want, p.next(t)); diff != "" {
				t.Error(diff)
			}
		}
		b.clock.Step(4 * time.Minute)
		b.clock.Step(time.Minute)
		if got := p.next(t); got.Topic != invalid {
			t.Errorf("announced twice: %v", got)
		}
		p.awaitGone(t)
	})
}

func TestDirectMessagesNeedNoSubscription(t *testing.T) {
	forBoth(t, func(t *testing.T, version string) {
		b := open(t, func(s *state.Switches) { s.RecheckSubscriptions = true })
		p := b.dialer("W|"+b.issue(t, "W", "f/#")).must(t, version)
		p.alive(t, "f/a")
		if err := p.publish("f/p2p/"+deviceID, "hello", 1); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(message{Topic: "f/p2p/" + deviceID, Payload: "hello"}, p.next(t)); diff != "" {
			t.Error(diff)
		}
	})
}

func TestSubscriptionsAreRecheckedOnDemand(t *testing.T) {
	b := open(t, func(s *state.Switches) { s.RecheckSubscriptions = true })
	p := b.dialer("RW|"+b.issue(t, "R,W", "f/#,g/#")).must(t, "MQTT 5")
	for _, filter := range []string{"f/#", "g/#"} {
		if err := p.subscribe(filter); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.publish(uploadName, upload("RW", b.issue(t, "R,W", "g/#")), 1); err != nil {
		t.Fatal(err)
	}
	d := b.dialer("W|" + b.issue(t, "W", "#"))
	d.clientID = "GID_line@@@other"
	other := d.must(t, "MQTT 5")
	other.alive(t, "f/a")
	other.alive(t, "g/a")
	if got := p.next(t); got.Topic != "g/a" {
		t.Error(got)
	}
}

func TestTheSecondOfAClientIDTakesOver(t *testing.T) {
	b := open(t)
	d := b.dialer("RW|" + b.issue(t, "R,W", "f/#"))
	first := d.must(t, "MQTT 5")
	second := d.must(t, "MQTT 5")
	first.awaitGone(t)
	second.alive(t, "f/a")
}

func TestAReconnectLosesNoSubscription(t *testing.T) {
	forBoth(t, func(t *testing.T, version string) {
		b := open(t)
		d := b.dialer("RW|" + b.issue(t, "R,W", "f/#"))
		for range 20 {
			p := d.must(t, version)
			if err := p.subscribe("f/#"); err != nil {
				t.Fatal(err)
			}
			p.alive(t, "f/a")
			p.next(t)
		}
	})
}

func TestCloseDoesNotWaitForSilentConnections(t *testing.T) {
	b := open(t)
	for _, kind := range broker.Kinds() {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", b.broker.Address(kind))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
	}
}

func TestStartReportsAPortThatIsTaken(t *testing.T) {
	b := open(t)
	for _, kind := range broker.Kinds() {
		_, err := broker.Start(t.Context(), broker.Options{
			Issuer: b.issuer, Clock: b.clock, TLS: b.tls, Addresses: map[broker.Kind]string{kind: b.broker.Address(kind)},
		})
		if err == nil {
			t.Errorf("%s: started", kind)
		}
	}
}
