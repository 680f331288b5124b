package simulator_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aliyun/alibaba-cloud-sdk-go/sdk"
	"github.com/aliyun/alibaba-cloud-sdk-go/sdk/auth/credentials"
	sdkerrors "github.com/aliyun/alibaba-cloud-sdk-go/sdk/errors"
	"github.com/aliyun/alibaba-cloud-sdk-go/sdk/requests"
	"github.com/aliyun/alibaba-cloud-sdk-go/services/onsmqtt"
	"github.com/google/go-cmp/cmp"
	testclock "k8s.io/utils/clock/testing"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/simulator"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/simulator/broker"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/simulator/state"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/simulator/wire"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
)

const patience = 10 * time.Second

// start runs a simulator on a clock of its own, years away from the one that signs the SDK's calls.
func start(t *testing.T) *simulator.Simulator {
	t.Helper()
	onsmqtt.GetEndpointMap()
	s, err := simulator.Start(t.Context(), simulator.Options{
		Clock:     testclock.NewFakeClock(time.Date(2031, 3, 5, 7, 11, 13, 0, time.UTC)),
		Accounts:  []state.Account{{ID: "a", Keys: []state.Key{{ID: "key-a", Secret: token.NewValue("secret-a")}}}},
		Instances: []state.Instance{{ID: "post-cn-a", Region: "cn-hangzhou", Account: "a"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func trust(t *testing.T, s *simulator.Simulator) *tls.Config {
	t.Helper()
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(s.CAPEM()) {
		t.Fatal("no CA")
	}
	return &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
}

func apply(t *testing.T, s *simulator.Simulator) (string, error) {
	t.Helper()
	config := sdk.NewConfig().WithScheme("HTTPS").WithHttpTransport(&http.Transport{TLSClientConfig: trust(t, s), DisableKeepAlives: true})
	client, err := onsmqtt.NewClientWithOptions("cn-hangzhou", config, credentials.NewAccessKeyCredential("key-a", "secret-a"))
	if err != nil {
		t.Fatal(err)
	}
	client.Domain = s.APIAddress()
	request := onsmqtt.CreateApplyTokenRequest()
	request.InstanceId, request.Actions, request.Resources = "post-cn-a", "R,W", "f/#"
	request.ExpireTime = requests.NewInteger64(s.State().Now().Add(time.Hour).UnixMilli())
	response, err := client.ApplyToken(request)
	if err != nil {
		return "", err
	}
	return response.Token, nil
}

func TestATokenFromTheAPIOpensTheBroker(t *testing.T) {
	s := start(t)
	text, err := apply(t, s)
	if err != nil {
		t.Fatal("refused")
	}
	lost := make(chan struct{})
	client := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("ssl://" + s.BrokerAddress(broker.TLS)).SetTLSConfig(trust(t, s)).
		SetProtocolVersion(4).SetClientID("GID_line@@@a").SetUsername("Token|key-a|post-cn-a").SetPassword("RW|" + text).
		SetAutoReconnect(false).SetConnectionLostHandler(func(mqtt.Client, error) { close(lost) }))
	if connecting := client.Connect(); !connecting.WaitTimeout(patience) || connecting.Error() != nil {
		t.Fatal(connecting.Error())
	}
	if publishing := client.Publish("f/a", 1, false, "x"); !publishing.WaitTimeout(patience) || publishing.Error() != nil {
		t.Fatal(publishing.Error())
	}
	if diff := cmp.Diff([]string{"GID_line@@@a"}, s.Clients()); diff != "" {
		t.Error(diff)
	}
	admin(t, s, "POST", "/revoke", `{"id":"`+state.IDOf(token.NewValue(text))+`"}`, 204)
	select {
	case <-lost:
	case <-time.After(patience):
		t.Error("the revocation does not reach the broker")
	}
	list := admin(t, s, "GET", "/tokens", "", 200)
	if strings.Contains(list, text) || !strings.Contains(list, `"validity": "Revoked"`) {
		t.Error(list)
	}
}

// admin makes a call to the admin endpoint and returns the answer.
func admin(t *testing.T, s *simulator.Simulator, method, path, body string, wantStatus int) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, "http://"+s.AdminAddress()+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	answer, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != wantStatus {
		t.Errorf("%s %s: %d, want %d: %s", method, path, response.StatusCode, wantStatus, answer)
	}
	return string(answer)
}

func TestAdmin(t *testing.T) {
	for sentence, tc := range map[string]struct {
		method, path, body string
		wantStatus         int
		want               string
	}{
		"health":                             {"GET", "/healthz", "", 200, "ok"},
		"tokens before there are any":        {"GET", "/tokens", "", 200, "[]"},
		"peaks before there are any":         {"GET", "/peaks", "", 200, "{}"},
		"calls before there are any":         {"GET", "/calls", "", 200, "{}"},
		"the clock":                          {"GET", "/clock", "", 200, `"now": "2031-03-05T07:11:13Z"`},
		"the clock moves":                    {"POST", "/clock", `{"advance":"10m"}`, 200, `"now": "2031-03-05T07:21:13Z"`},
		"the clock does not move back":       {"POST", "/clock", `{"advance":"-10m"}`, 400, "only moves forward"},
		"a move that is no duration":         {"POST", "/clock", `{"advance":10}`, 400, "a duration is a string"},
		"faults":                             {"PUT", "/faults", `{"latency":"1ms","calls":[{"kind":"Error","rate":0.5}]}`, 200, `"rate": 0.5`},
		"faults of an unknown kind":          {"PUT", "/faults", `{"calls":[{"kind":"Fire"}]}`, 400, "unknown kind"},
		"faults with a typing error":         {"PUT", "/faults", `{"latancy":"1ms"}`, 400, "unknown field"},
		"a revocation of a token nobody has": {"POST", "/revoke", `{"id":"x"}`, 404, "no token"},
		"a method that is not offered":       {"DELETE", "/tokens", "", 405, ""},
	} {
		t.Run(sentence, func(t *testing.T) {
			s := start(t)
			if got := admin(t, s, tc.method, tc.path, tc.body, tc.wantStatus); !strings.Contains(got, tc.want) {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
}

func TestAdminHandsOutTheCA(t *testing.T) {
	s := start(t)
	if got := admin(t, s, "GET", "/ca.crt", "", 200); got != string(s.CAPEM()) {
		t.Error(got)
	}
}

func TestFaultsAtRunTime(t *testing.T) {
	s := start(t)
	admin(t, s, "PUT", "/faults", `{"calls":[{"kind":"Error","operation":"ApplyToken","times":1,"status":500,"code":"SystemOverFlow"}]}`, 200)
	_, err := apply(t, s)
	var refused *sdkerrors.ServerError
	if !errors.As(err, &refused) || refused.ErrorCode() != "SystemOverFlow" || refused.HttpStatus() != 500 {
		t.Error("the fault does not hit")
	}
	if _, err := apply(t, s); err != nil {
		t.Error("the fault hits twice")
	}
	var calls map[state.Operation]wire.CallCount
	if err := json.Unmarshal([]byte(admin(t, s, "GET", "/calls", "", 200)), &calls); err != nil {
		t.Fatal(err)
	}
	want := map[state.Operation]wire.CallCount{state.Apply: {Total: 2, Failed: 1, Codes: map[string]int{"SystemOverFlow": 1}}}
	if diff := cmp.Diff(want, calls); diff != "" {
		t.Error(diff)
	}
}

func TestTheCertificateCarriesTheNames(t *testing.T) {
	s, err := simulator.Start(t.Context(), simulator.Options{Names: []string{"simulator.mqtt.svc", "127.0.0.1"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	for name, want := range map[string]bool{"simulator.mqtt.svc": true, "127.0.0.1": true, "localhost": false} {
		config := trust(t, s)
		config.ServerName = name
		for _, address := range []string{s.APIAddress(), s.BrokerAddress(broker.TLS), s.BrokerAddress(broker.WebSocketTLS)} {
			conn, err := (&tls.Dialer{Config: config}).DialContext(t.Context(), "tcp", address)
			if (err == nil) != want {
				t.Errorf("%s at %s: %v", name, address, err)
			}
			if err == nil {
				_ = conn.Close()
			}
		}
	}
}

func TestTheContextEndsIt(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s, err := simulator.Start(ctx, simulator.Options{})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	conn, err := (&tls.Dialer{Config: trust(t, s)}).DialContext(t.Context(), "tcp", s.APIAddress())
	if err == nil {
		_ = conn.Close()
		t.Error("still serving")
	}
}

func TestStartRefuses(t *testing.T) {
	running := start(t)
	for sentence, options := range map[string]simulator.Options{
		"an instance of nobody":         {Instances: []state.Instance{{ID: "i", Account: "nobody"}}},
		"a fault of an unknown kind":    {Faults: wire.Faults{Calls: []wire.Fault{{Kind: "Fire"}}}},
		"an OpenAPI port that is taken": {APIAddress: running.APIAddress()},
		"an admin port that is taken":   {AdminAddress: running.APIAddress()},
		"a broker port that is taken":   {BrokerAddresses: map[broker.Kind]string{broker.WebSocket: running.APIAddress()}},
	} {
		t.Run(sentence, func(t *testing.T) {
			if _, err := simulator.Start(t.Context(), options); err == nil {
				t.Error("started")
			}
		})
	}
}

func TestAGivenCertificateIsServed(t *testing.T) {
	given := start(t)
	var made tls.Certificate
	conn, err := (&tls.Dialer{Config: trust(t, given)}).DialContext(t.Context(), "tcp", given.APIAddress())
	if err != nil {
		t.Fatal(err)
	}
	made.Certificate = [][]byte{conn.(*tls.Conn).ConnectionState().PeerCertificates[0].Raw}
	_ = conn.Close()
	s, err := simulator.Start(t.Context(), simulator.Options{Certificate: &made, CAPEM: given.CAPEM()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	if !bytes.Equal(s.CAPEM(), given.CAPEM()) {
		t.Error("another CA")
	}
}
