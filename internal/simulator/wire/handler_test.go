package wire_test

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aliyun/alibaba-cloud-sdk-go/sdk"
	"github.com/aliyun/alibaba-cloud-sdk-go/sdk/auth"
	"github.com/aliyun/alibaba-cloud-sdk-go/sdk/auth/credentials"
	sdkerrors "github.com/aliyun/alibaba-cloud-sdk-go/sdk/errors"
	"github.com/aliyun/alibaba-cloud-sdk-go/sdk/requests"
	"github.com/aliyun/alibaba-cloud-sdk-go/services/onsmqtt"
	"github.com/google/go-cmp/cmp"
	"k8s.io/utils/clock"
	testclock "k8s.io/utils/clock/testing"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/simulator/state"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/simulator/wire"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
)

const instance = "post-cn-a"

// bench is a handler behind TLS with an issuer whose clock is the real one, because the SDK stamps its calls by it.
type bench struct {
	issuer  *state.State
	handler *wire.Handler
	server  *httptest.Server
	// sent is the address of the last call that the SDK made.
	sent *url.URL
}

func open(t *testing.T, modify ...func(*state.Options)) *bench {
	t.Helper()
	onsmqtt.GetEndpointMap()
	options := state.Options{
		Accounts: []state.Account{
			{ID: "a", Keys: []state.Key{
				{ID: "key-a", Secret: token.NewValue("secret-a")},
				{ID: "STS.temp", Secret: token.NewValue("secret-t"), SecurityToken: token.NewValue("session+/=")},
			}},
			{ID: "b", Keys: []state.Key{{ID: "key-b", Secret: token.NewValue("secret-b")}}},
		},
		Instances: []state.Instance{{ID: instance, Region: "cn-hangzhou", Account: "a", Topics: []string{"a", "it's *~ a"}}},
	}
	for _, m := range modify {
		m(&options)
	}
	issuer, err := state.New(options)
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{issuer: issuer, handler: wire.NewHandler(issuer, clock.RealClock{})}
	b.server = httptest.NewUnstartedServer(b.handler)
	b.server.Config.TLSNextProto = map[string]func(*http.Server, *tls.Conn, http.Handler){}
	b.server.Config.ErrorLog = nil
	b.server.StartTLS()
	t.Cleanup(b.server.Close)
	return b
}

// RoundTrip remembers the address of each call, so that tests can replay and forge calls.
func (b *bench) RoundTrip(r *http.Request) (*http.Response, error) {
	sent := *r.URL
	b.sent = &sent
	return b.server.Client().Transport.RoundTrip(r)
}

func (b *bench) client(t *testing.T, credential auth.Credential) *onsmqtt.Client {
	t.Helper()
	config := sdk.NewConfig().WithScheme("HTTPS")
	config.Transport = b
	client, err := onsmqtt.NewClientWithOptions("cn-hangzhou", config, credential)
	if err != nil {
		t.Fatal(err)
	}
	client.Domain = strings.TrimPrefix(b.server.URL, "https://")
	return client
}

func keyA() auth.Credential { return credentials.NewAccessKeyCredential("key-a", "secret-a") }

func applyRequest(b *bench) *onsmqtt.ApplyTokenRequest {
	request := onsmqtt.CreateApplyTokenRequest()
	request.Scheme = "HTTPS"
	request.InstanceId, request.Actions, request.Resources = instance, "R,W", "a/+/x,a/b/#,it's *~ a/b"
	request.ExpireTime = requests.NewInteger64(b.issuer.Now().Add(time.Hour).UnixMilli())
	return request
}

func codeOf(err error) string {
	if refused, is := errors.AsType[*sdkerrors.ServerError](err); is {
		return strconv.Itoa(refused.HttpStatus()) + " " + refused.ErrorCode()
	}
	if err != nil {
		return "no answer"
	}
	return ""
}

func (b *bench) apply(t *testing.T) token.Value {
	t.Helper()
	response, err := b.client(t, keyA()).ApplyToken(applyRequest(b))
	if err != nil || response.RequestId == "" {
		t.Fatal(codeOf(err))
	}
	return token.NewValue(response.Token)
}

func TestTheSDKWorksAgainstIt(t *testing.T) {
	b := open(t)
	text := b.apply(t)
	query := func() bool {
		request := onsmqtt.CreateQueryTokenRequest()
		request.InstanceId, request.Token = instance, text.Reveal()
		response, err := b.client(t, keyA()).QueryToken(request)
		if err != nil || response.RequestId == "" {
			t.Fatal(codeOf(err))
		}
		return response.TokenStatus
	}
	if !query() {
		t.Error("a fresh token is not valid")
	}
	request := onsmqtt.CreateRevokeTokenRequest()
	request.InstanceId, request.Token = instance, text.Reveal()
	if _, err := b.client(t, keyA()).RevokeToken(request); err != nil {
		t.Fatal(codeOf(err))
	}
	if query() {
		t.Error("a revoked token is valid")
	}
	want := map[state.Operation]wire.CallCount{
		state.Apply: {Total: 1}, state.Query: {Total: 2},
		state.Revoke: {Total: 1},
	}
	if diff := cmp.Diff(want, b.handler.Calls()); diff != "" {
		t.Error(diff)
	}
	held, _ := b.issuer.Resolve(text)
	if diff := cmp.Diff([]string{"a/+/x", "a/b/#", "it's *~ a/b"}, held.Topics); diff != "" {
		t.Error(diff)
	}
}

func TestRefusals(t *testing.T) {
	for sentence, tc := range map[string]struct {
		modify     func(*state.Options)
		credential auth.Credential
		faults     wire.Faults
		change     func(*onsmqtt.ApplyTokenRequest)
		want       string
	}{
		"a wrong secret":                      {credential: credentials.NewAccessKeyCredential("key-a", "wrong"), want: "400 SignatureDoesNotMatch"},
		"an unknown key":                      {credential: credentials.NewAccessKeyCredential("nobody", "wrong"), want: "404 InvalidAccessKeyId.NotFound"},
		"a temporary key":                     {credential: credentials.NewStsTokenCredential("STS.temp", "secret-t", "session+/="), want: ""},
		"a temporary key without its token":   {credential: credentials.NewAccessKeyCredential("STS.temp", "secret-t"), want: "400 MissingSecurityToken"},
		"a temporary key with another token":  {credential: credentials.NewStsTokenCredential("STS.temp", "secret-t", "other"), want: "400 InvalidSecurityToken.MismatchWithAccessKey"},
		"a lasting key with a token":          {credential: credentials.NewStsTokenCredential("key-a", "secret-a", "other"), want: "400 InvalidSecurityToken.MismatchWithAccessKey"},
		"another account's instance":          {credential: credentials.NewAccessKeyCredential("key-b", "secret-b"), want: "400 InstancePermissionCheckFailed"},
		"a topic the account has not":         {change: func(r *onsmqtt.ApplyTokenRequest) { r.Resources = "x" }, want: "400 PermissionCheckFailed"},
		"a topic that is no filter":           {change: func(r *onsmqtt.ApplyTokenRequest) { r.Resources = "a/#/b" }, want: "400 ParameterCheckFailed"},
		"no instance":                         {change: func(r *onsmqtt.ApplyTokenRequest) { r.InstanceId = "" }, want: "400 MissingInstanceId"},
		"no topics":                           {change: func(r *onsmqtt.ApplyTokenRequest) { r.Resources = "" }, want: "400 MissingResources"},
		"no actions":                          {change: func(r *onsmqtt.ApplyTokenRequest) { r.Actions = "" }, want: "400 MissingActions"},
		"an expiry in the past":               {change: func(r *onsmqtt.ApplyTokenRequest) { r.ExpireTime = "1" }, want: "400 ParameterCheckFailed"},
		"an expiry that is no number":         {change: func(r *onsmqtt.ApplyTokenRequest) { r.ExpireTime = "tomorrow" }, want: "400 InvalidParameter.ExpireTime"},
		"a GET where only POST is taken":      {change: func(r *onsmqtt.ApplyTokenRequest) { r.Method = requests.GET }, want: "405 UnsupportedHTTPMethod"},
		"too many calls":                      {modify: func(o *state.Options) { o.Quotas.Apply = 1 }, change: nil, want: "400 ApplyTokenOverFlow"},
		"a clock 16 minutes ahead":            {faults: wire.Faults{ClockSkew: wire.Duration(16 * time.Minute)}, want: "400 InvalidTimeStamp.Expired"},
		"a clock 16 minutes behind":           {faults: wire.Faults{ClockSkew: wire.Duration(-16 * time.Minute)}, want: "400 InvalidTimeStamp.Expired"},
		"a clock 14 minutes ahead":            {faults: wire.Faults{ClockSkew: wire.Duration(14 * time.Minute)}, want: ""},
		"an error on demand":                  {faults: one(wire.Fault{Kind: wire.FaultError}), want: "503 ServiceUnavailable"},
		"an error on demand with a code":      {faults: one(wire.Fault{Kind: wire.FaultError, Status: 500, Code: "SystemOverFlow"}), want: "500 SystemOverFlow"},
		"an error for another operation":      {faults: one(wire.Fault{Kind: wire.FaultError, Operation: state.Query}), want: ""},
		"an outage":                           {faults: one(wire.Fault{Kind: wire.FaultOutage}), want: "no answer"},
		"a reset in the middle of the answer": {faults: one(wire.Fault{Kind: wire.FaultReset}), want: "no answer"},
		"a reply that is dropped":             {faults: one(wire.Fault{Kind: wire.FaultDropReply}), want: "no answer"},
		"a body that is garbage":              {faults: one(wire.Fault{Kind: wire.FaultGarbage}), want: "no answer"},
	} {
		t.Run(sentence, func(t *testing.T) {
			if tc.modify == nil {
				tc.modify = func(*state.Options) {}
			}
			b := open(t, tc.modify)
			if tc.want == "400 ApplyTokenOverFlow" {
				// The second may turn between two calls, so stop the clock for both: advance it to no avail.
				b = open(t, tc.modify, func(o *state.Options) { o.Clock = testclock.NewFakePassiveClock(clock.RealClock{}.Now()) })
				b.apply(t)
			}
			if err := b.handler.SetFaults(tc.faults); err != nil {
				t.Fatal(err)
			}
			if tc.credential == nil {
				tc.credential = keyA()
			}
			request := applyRequest(b)
			if tc.change != nil {
				tc.change(request)
			}
			_, err := b.client(t, tc.credential).ApplyToken(request)
			if got := codeOf(err); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func one(fault wire.Fault) wire.Faults { return wire.Faults{Calls: []wire.Fault{fault}} }

// post sends a call as it is, and returns the error code and the message.
func (b *bench) post(t *testing.T, call *url.URL) (code, message string) {
	t.Helper()
	response, err := b.server.Client().Post(call.String(), "application/x-www-form-urlencoded", nil)
	if err != nil {
		t.Fatal("no answer")
	}
	defer response.Body.Close()
	var body struct {
		RequestID string `json:"RequestId"`
		HostID    string `json:"HostId"`
		Code      string
		Message   string
	}
	if err := json.NewDecoder(response.Body).Decode(&body); err != nil || body.RequestID == "" || body.HostID == "" {
		t.Fatalf("the body is not as documented: %v", err)
	}
	return body.Code, body.Message
}

func TestForgedCalls(t *testing.T) {
	for sentence, tc := range map[string]struct {
		change func(url.Values)
		want   string
	}{
		"the same call again":           {change: func(url.Values) {}, want: "SignatureNonceUsed"},
		"a parameter changed":           {change: func(v url.Values) { v.Set("Resources", "a/#") }, want: "SignatureDoesNotMatch"},
		"a parameter added":             {change: func(v url.Values) { v.Set("Extra", "") }, want: "SignatureDoesNotMatch"},
		"an empty parameter taken away": {change: func(v url.Values) { v.Del("SignatureType") }, want: "SignatureDoesNotMatch"},
		"no signature":                  {change: func(v url.Values) { v.Del("Signature") }, want: "MissingSignature"},
		"no key":                        {change: func(v url.Values) { v.Del("AccessKeyId") }, want: "MissingAccessKeyId"},
		"no nonce":                      {change: func(v url.Values) { v.Del("SignatureNonce") }, want: "MissingSignatureNonce"},
		"no timestamp":                  {change: func(v url.Values) { v.Del("Timestamp") }, want: "MissingTimestamp"},
		"no action":                     {change: func(v url.Values) { v.Del("Action") }, want: "MissingAction"},
		"an API that does not exist":    {change: func(v url.Values) { v.Set("Action", "MakeToken") }, want: "InvalidApi.NotFound"},
		"a version that does not exist": {change: func(v url.Values) { v.Set("Version", "2019-01-01") }, want: "InvalidApi.NotFound"},
		"a timestamp of another form":   {change: func(v url.Values) { v.Set("Timestamp", "now") }, want: "InvalidTimeStamp.Format"},
		"a signature method of its own": {change: func(v url.Values) { v.Set("SignatureMethod", "none") }, want: "InvalidParameter.SignatureMethod"},
	} {
		t.Run(sentence, func(t *testing.T) {
			b := open(t)
			b.apply(t)
			params := b.sent.Query()
			tc.change(params)
			b.sent.RawQuery = params.Encode()
			if code, _ := b.post(t, b.sent); code != tc.want {
				t.Errorf("got %q, want %q", code, tc.want)
			}
			if n := len(b.issuer.Tokens()); n != 1 {
				t.Errorf("%d tokens", n)
			}
		})
	}
}

func TestParametersMayComeInTheForm(t *testing.T) {
	b := open(t)
	if err := b.handler.SetFaults(one(wire.Fault{Kind: wire.FaultOutage, Times: 1})); err != nil {
		t.Fatal(err)
	}
	if _, err := b.client(t, keyA()).ApplyToken(applyRequest(b)); err == nil {
		t.Fatal("the outage did not hit")
	}
	response, err := b.server.Client().PostForm(b.server.URL, b.sent.Query())
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatal("refused")
	}
	_ = response.Body.Close()
}

func TestDroppedRepliesLeaveATokenBehind(t *testing.T) {
	for kind, want := range map[wire.FaultKind]int{
		wire.FaultDropReply: 1, wire.FaultReset: 1, wire.FaultOutage: 0, wire.FaultError: 0, wire.FaultGarbage: 0,
	} {
		t.Run(string(kind), func(t *testing.T) {
			b := open(t)
			if err := b.handler.SetFaults(one(wire.Fault{Kind: kind})); err != nil {
				t.Fatal(err)
			}
			if _, err := b.client(t, keyA()).ApplyToken(applyRequest(b)); err == nil {
				t.Error("answered")
			}
			if got := len(b.issuer.Tokens()); got != want {
				t.Errorf("%d tokens, want %d", got, want)
			}
			if got := b.handler.Calls()[state.Apply]; got.Total != 1 || got.Failed != 1 {
				t.Errorf("counted %+v", got)
			}
		})
	}
}

func TestOddErrorIsANumber(t *testing.T) {
	b := open(t)
	if err := b.handler.SetFaults(one(wire.Fault{Kind: wire.FaultOddError})); err != nil {
		t.Fatal(err)
	}
	response, err := b.server.Client().Post(b.server.URL, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if body, _ := io.ReadAll(response.Body); response.StatusCode != http.StatusBadRequest || string(body) != `{"Code":400}` {
		t.Errorf("%d %s", response.StatusCode, body)
	}
}

func TestTimesAreUsedUp(t *testing.T) {
	b := open(t)
	if err := b.handler.SetFaults(one(wire.Fault{Kind: wire.FaultError, Code: "SystemOverFlow", Times: 2})); err != nil {
		t.Fatal(err)
	}
	var got []string
	for range 3 {
		_, err := b.client(t, keyA()).ApplyToken(applyRequest(b))
		got = append(got, codeOf(err))
	}
	if diff := cmp.Diff([]string{"503 SystemOverFlow", "503 SystemOverFlow", ""}, got); diff != "" {
		t.Error(diff)
	}
	if left := b.handler.Faults().Calls; len(left) != 0 {
		t.Errorf("left: %v", left)
	}
	want := wire.CallCount{Total: 3, Failed: 2, Codes: map[string]int{"SystemOverFlow": 2}}
	if diff := cmp.Diff(want, b.handler.Calls()[state.Apply]); diff != "" {
		t.Error(diff)
	}
}

func TestDateIsTheSimulatorsClock(t *testing.T) {
	b := open(t, func(o *state.Options) {
		o.Clock = testclock.NewFakePassiveClock(time.Date(2031, 3, 5, 7, 11, 13, 0, time.UTC))
	})
	response, err := b.server.Client().Post(b.server.URL, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if got := response.Header.Get("Date"); got != "Wed, 05 Mar 2031 07:11:13 GMT" {
		t.Error(got)
	}
}

// What moves the clock that tokens end by moves the Date of every answer, and nothing else does.
func TestDateFollowsTheClockThatTokensEndBy(t *testing.T) {
	begin := time.Date(2031, 3, 5, 7, 11, 13, 0, time.UTC)
	skewed := func(b *bench, skew time.Duration, calls ...wire.Fault) {
		if err := b.handler.SetFaults(wire.Faults{ClockSkew: wire.Duration(skew), Calls: calls}); err != nil {
			t.Fatal(err)
		}
	}
	advanced := func(b *bench, by time.Duration) {
		if err := b.issuer.Advance(by); err != nil {
			t.Fatal(err)
		}
	}
	for sentence, tc := range map[string]struct {
		act  func(*bench)
		want time.Duration
	}{
		"left alone":               {act: func(*bench) {}},
		"advanced":                 {act: func(b *bench) { advanced(b, 10*time.Minute) }, want: 10 * time.Minute},
		"ahead":                    {act: func(b *bench) { skewed(b, 10*time.Minute) }, want: 10 * time.Minute},
		"behind":                   {act: func(b *bench) { skewed(b, -10*time.Minute) }, want: -10 * time.Minute},
		"advanced and behind":      {act: func(b *bench) { advanced(b, time.Hour); skewed(b, -10*time.Minute) }, want: 50 * time.Minute},
		"ahead, then back":         {act: func(b *bench) { skewed(b, 10*time.Minute); skewed(b, 0) }},
		"ahead, then behind":       {act: func(b *bench) { skewed(b, 10*time.Minute); skewed(b, -10*time.Minute) }, want: -10 * time.Minute},
		"ahead, with an error":     {act: func(b *bench) { skewed(b, time.Hour, wire.Fault{Kind: wire.FaultError}) }, want: time.Hour},
		"ahead, with garbage":      {act: func(b *bench) { skewed(b, time.Hour, wire.Fault{Kind: wire.FaultGarbage}) }, want: time.Hour},
		"behind, with an oddity":   {act: func(b *bench) { skewed(b, -time.Hour, wire.Fault{Kind: wire.FaultOddError}) }, want: -time.Hour},
		"behind, and breaking off": {act: func(b *bench) { skewed(b, -time.Hour, wire.Fault{Kind: wire.FaultReset}) }, want: -time.Hour},
	} {
		t.Run(sentence, func(t *testing.T) {
			b := open(t, func(o *state.Options) { o.Clock = testclock.NewFakePassiveClock(begin) })
			tc.act(b)
			response, err := b.server.Client().Post(b.server.URL, "", nil)
			if err != nil {
				t.Fatal(err)
			}
			_ = response.Body.Close()
			if got, want := response.Header.Get("Date"), begin.Add(tc.want).Format(http.TimeFormat); got != want || !b.issuer.Now().Equal(begin.Add(tc.want)) {
				t.Errorf("says %s at %s, want %s", got, b.issuer.Now(), want)
			}
		})
	}
}

// The SDK signs by the real clock. Only the skew can make that too old; a jump back makes it good again.
func TestSignaturesAreJudgedByTheSkewAndNotByAdvance(t *testing.T) {
	b := open(t)
	call := func() string {
		_, err := b.client(t, keyA()).ApplyToken(applyRequest(b))
		return codeOf(err)
	}
	got := []string{}
	for _, skew := range []time.Duration{0, 14 * time.Minute, 16 * time.Minute, -16 * time.Minute, -14 * time.Minute, 0} {
		if err := b.handler.SetFaults(wire.Faults{ClockSkew: wire.Duration(skew)}); err != nil {
			t.Fatal(err)
		}
		if err := b.issuer.Advance(time.Hour); err != nil {
			t.Fatal(err)
		}
		got = append(got, call())
	}
	want := []string{"", "", "400 InvalidTimeStamp.Expired", "400 InvalidTimeStamp.Expired", "", ""}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestLatencyHoldsTheAnswerBack(t *testing.T) {
	issuer, err := state.New(state.Options{})
	if err != nil {
		t.Fatal(err)
	}
	timer := testclock.NewFakeClock(time.Date(2031, 3, 5, 7, 11, 13, 0, time.UTC))
	handler := wire.NewHandler(issuer, timer)
	if err := handler.SetFaults(wire.Faults{Latency: wire.Duration(time.Minute)}); err != nil {
		t.Fatal(err)
	}
	recorder := httptest.NewRecorder()
	done := make(chan struct{})
	go func() {
		handler.ServeHTTP(recorder, httptest.NewRequest(http.MethodPost, "/", nil))
		close(done)
	}()
	for !timer.HasWaiters() {
		select {
		case <-done:
			t.Fatal("answered at once")
		default:
		}
	}
	timer.Step(time.Minute)
	<-done
	if recorder.Code != http.StatusBadRequest {
		t.Error(recorder.Code)
	}
}

func TestFaultsRefuseNonsense(t *testing.T) {
	for sentence, faults := range map[string]wire.Faults{
		"an unknown kind":      one(wire.Fault{Kind: "Fire"}),
		"an unknown operation": one(wire.Fault{Kind: wire.FaultError, Operation: "MakeToken"}),
		"a rate above one":     one(wire.Fault{Kind: wire.FaultError, Rate: 1.1}),
		"a negative count":     one(wire.Fault{Kind: wire.FaultError, Times: -1}),
		"a status of success":  one(wire.Fault{Kind: wire.FaultError, Status: 200}),
		"a negative latency":   {Latency: -1},
	} {
		t.Run(sentence, func(t *testing.T) {
			b := open(t)
			if err := b.handler.SetFaults(faults); err == nil {
				t.Error("accepted")
			}
		})
	}
}

func TestFaultsTravelAsJSON(t *testing.T) {
	want := wire.Faults{Latency: wire.Duration(1500 * time.Millisecond), Calls: []wire.Fault{{Kind: wire.FaultError, Rate: 0.5}}}
	text, err := json.Marshal(want)
	if err != nil || !strings.Contains(string(text), `"1.5s"`) {
		t.Fatal(err, string(text))
	}
	var got wire.Faults
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for _, wrong := range []string{`{"latency":5}`, `{"latency":"soon"}`} {
		if err := json.Unmarshal([]byte(wrong), &got); err == nil {
			t.Errorf("accepted %s", wrong)
		}
	}
}

func FuzzServeHTTP(f *testing.F) {
	f.Add("Action=ApplyToken&Version=2020-04-20&AccessKeyId=key-a&Signature=x", "")
	f.Add("%zz", "Action=QueryToken")
	f.Add("Action=ApplyToken", "ExpireTime=9223372036854775807")
	f.Fuzz(func(t *testing.T, query, body string) {
		issuer, err := state.New(state.Options{})
		if err != nil {
			t.Fatal(err)
		}
		request := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
		request.URL.RawQuery = query
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		recorder := httptest.NewRecorder()
		wire.NewHandler(issuer, clock.RealClock{}).ServeHTTP(recorder, request)
		if recorder.Code < 400 || !json.Valid(recorder.Body.Bytes()) {
			t.Error(fmt.Sprint(recorder.Code), recorder.Body)
		}
	})
}
