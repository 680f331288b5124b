package aliyun_test

import (
	"crypto/hmac"
	"crypto/sha1" // the service's signature method
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/aliyun"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/topic"
)

func TestRequestsSayWhatTheServiceExpects(t *testing.T) {
	p := startPeer(t, working)
	s := open(t, p.connection(), aliyun.Options{UserAgent: "mqtt-token-operator/v1"})
	for operation, err := range callEach(t, s) {
		if err != nil {
			t.Errorf("%s: %v", operation, err)
		}
	}
	want := []map[string]string{
		{"Action": "ApplyToken", "InstanceId": "post-cn-0pp12gl0001", "Actions": "R,W", "Resources": "a/+,b/#", "ExpireTime": "1930089598007"},
		{"Action": "QueryToken", "InstanceId": "post-cn-0pp12gl0001", "Token": canaryToken},
		{"Action": "RevokeToken", "InstanceId": "post-cn-0pp12gl0001", "Token": canaryToken},
	}
	nonces := map[string]bool{}
	for i, r := range p.seen() {
		query := r.URL.Query()
		got := map[string]string{}
		for _, name := range []string{"Action", "InstanceId", "Actions", "Resources", "ExpireTime", "Token"} {
			if query.Has(name) {
				got[name] = query.Get(name)
			}
		}
		if diff := cmp.Diff(want[i], got); diff != "" {
			t.Error(diff)
		}
		if r.Method != http.MethodPost || r.ContentLength != 0 || query.Get("SecurityToken") != canarySTS || query.Get("RegionId") != "cn-hangzhou" {
			t.Errorf("%s: %d bytes, %v", r.Method, r.ContentLength, query)
		}
		if agent := r.Header.Get("User-Agent"); !strings.HasSuffix(agent, " Extra/mqtt-token-operator/v1") {
			t.Errorf("user agent %q", agent)
		}
		if query.Get("Signature") != signature(query, canarySecret) {
			t.Errorf("the signature of %s is wrong", query.Get("Action"))
		}
		nonces[query.Get("SignatureNonce")] = true
	}
	if len(nonces) != len(want) {
		t.Errorf("%d nonces for %d calls", len(nonces), len(want))
	}
}

// signature computes what the service would, independently of the SDK.
func signature(query url.Values, secret string) string {
	escape := func(text string) string { return strings.ReplaceAll(url.QueryEscape(text), "+", "%20") }
	var pairs []string
	for _, name := range slices.Sorted(maps.Keys(query)) {
		if name != "Signature" {
			pairs = append(pairs, escape(name)+"="+escape(query.Get(name)))
		}
	}
	mac := hmac.New(sha1.New, []byte(secret+"&"))
	mac.Write([]byte("POST&%2F&" + escape(strings.Join(pairs, "&"))))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

func TestALastingKeySendsNoSecurityToken(t *testing.T) {
	p := startPeer(t, working)
	connection := p.connection()
	connection.SecurityToken = token.Value{}
	if _, err := open(t, connection, aliyun.Options{}).Query(t.Context(), token.NewValue("x")); err != nil {
		t.Fatal(err)
	}
	if p.seen()[0].URL.Query().Has("SecurityToken") {
		t.Error("a security token was sent")
	}
}

func TestTypesAreSpelledAsTheServiceDoes(t *testing.T) {
	p := startPeer(t, working)
	s := open(t, p.connection(), aliyun.Options{})
	for kind, want := range map[token.Type]string{token.Publish: "W", token.Subscribe: "R", token.PublishSubscribe: "R,W"} {
		value, err := s.Apply(t.Context(), token.Scope{Type: kind, Topics: scope().Topics}, expiry())
		if err != nil || value.Reveal() != canaryToken {
			t.Errorf("%s: %v", kind, err)
		}
		seen := p.seen()
		if got := seen[len(seen)-1].URL.Query().Get("Actions"); got != want {
			t.Errorf("%s is sent as %q, want %q", kind, got, want)
		}
	}
}

func TestBadScopesAreNeverSent(t *testing.T) {
	p := startPeer(t, working)
	s := open(t, p.connection(), aliyun.Options{})
	for sentence, scope := range map[string]token.Scope{
		"a type that is not known": {Type: "RW", Topics: scope().Topics},
		"no topics":                {Type: token.Publish},
		"a topic that is none":     {Type: token.Publish, Topics: []topic.Filter{{}}},
		"more topics than fit":     {Type: token.Publish, Topics: slices.Repeat(scope().Topics, token.MaxTopics)},
	} {
		t.Run(sentence, func(t *testing.T) {
			_, err := s.Apply(t.Context(), scope, expiry())
			wantFault(t, err, token.KindInvalid, "InvalidScope")
		})
	}
	if n := len(p.seen()); n != 0 {
		t.Errorf("%d calls were made", n)
	}
}

func TestDialRefusesWhatCanNeverWork(t *testing.T) {
	for sentence, tc := range map[string]struct {
		change func(*token.Connection)
		want   string
	}{
		"no instance":                {func(c *token.Connection) { c.InstanceID = "" }, "IncompleteConnection"},
		"no key id":                  {func(c *token.Connection) { c.AccessKeyID = "" }, "IncompleteConnection"},
		"no key secret":              {func(c *token.Connection) { c.AccessKeySecret = token.Value{} }, "IncompleteConnection"},
		"no region":                  {func(c *token.Connection) { c.Region, c.Endpoint = "", "" }, "InvalidRegion"},
		"a region that names a host": {func(c *token.Connection) { c.Region, c.Endpoint = "x.example.com/", "" }, "InvalidRegion"},
		"an endpoint with a scheme":  {func(c *token.Connection) { c.Endpoint = "http://example.com" }, "InvalidEndpoint"},
		"an endpoint with a path":    {func(c *token.Connection) { c.Endpoint = "example.com/path" }, "InvalidEndpoint"},
		"an endpoint with a user":    {func(c *token.Connection) { c.Endpoint = "user@example.com" }, "InvalidEndpoint"},
		"an endpoint with a query":   {func(c *token.Connection) { c.Endpoint = "example.com?x" }, "InvalidEndpoint"},
		"a port without a host":      {func(c *token.Connection) { c.Endpoint = ":443" }, "InvalidEndpoint"},
		"a CA bundle that is none":   {func(c *token.Connection) { c.CABundle = []byte("no certificate") }, "InvalidCABundle"},
	} {
		t.Run(sentence, func(t *testing.T) {
			connection := connectionTo("example.com:8443")
			tc.change(&connection)
			service, err := aliyun.NewVendor(aliyun.Options{}).Dial(connection)
			fault := wantFault(t, err, token.KindInstance, tc.want)
			if service != nil || fault.Op != "Dial" || fault.Hint == "" {
				t.Errorf("service %v, fault %+v", service, fault)
			}
		})
	}
}

func TestRevokeChecksARefusalOfTheRequest(t *testing.T) {
	refused := func(code string) string { return fmt.Sprintf(`{"RequestId":"R-9","Code":%q}`, code) }
	for sentence, tc := range map[string]struct {
		code        string
		queryStatus int
		query       string
		wantErr     bool
		wantCalls   []string
	}{
		"a token that is not valid counts as revoked": {
			"ParameterCheckFailed", 200, `{"RequestId":"R","TokenStatus":false}`, false, []string{"RevokeToken", "QueryToken"},
		},
		"a token that is still valid does not": {
			"ParameterCheckFailed", 200, `{"RequestId":"R","TokenStatus":true}`, true, []string{"RevokeToken", "QueryToken"},
		},
		"one that cannot be asked about does not": {
			"ParameterCheckFailed", 500, `{"RequestId":"R","Code":"InternalError"}`, true, []string{"RevokeToken", "QueryToken"},
		},
		"other refusals are not asked about": {
			"RevokeTokenOverFlow", 200, `{"RequestId":"R","TokenStatus":false}`, true, []string{"RevokeToken"},
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			p := startPeer(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Query().Get("Action") == "QueryToken" {
					answering(tc.queryStatus, tc.query)(w, r)
					return
				}
				answering(http.StatusBadRequest, refused(tc.code))(w, r)
			})
			err := open(t, p.connection(), aliyun.Options{}).Revoke(t.Context(), token.NewValue(canaryToken))
			if (err != nil) != tc.wantErr || err != nil && token.AsError(err).Code != tc.code {
				t.Errorf("got %v, want an error: %v", err, tc.wantErr)
			}
			var calls []string
			for _, r := range p.seen() {
				calls = append(calls, r.URL.Query().Get("Action"))
			}
			if diff := cmp.Diff(tc.wantCalls, calls); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// observation is one reported call.
type observation struct {
	Operation, Outcome string
	Took               time.Duration
}

type observer struct {
	mu   sync.Mutex
	seen []observation
}

func (o *observer) ObserveCall(operation, outcome string, took time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.seen = append(o.seen, observation{operation, outcome, took})
}

func TestEveryCallIsObservedOnce(t *testing.T) {
	clock := clocktesting.NewFakeClock(expiry())
	calls := &observer{}
	p := startPeer(t, func(w http.ResponseWriter, r *http.Request) {
		clock.Step(time.Second)
		if r.URL.Query().Get("Action") == "QueryToken" {
			answering(http.StatusOK, `{"RequestId":"R"}`)(w, r) // an answer that is none counts as a failure, too
			return
		}
		working(w, r)
	})
	callEach(t, open(t, p.connection(), aliyun.Options{Calls: calls, Now: clock.Now}))
	want := []observation{{"Apply", "ok", time.Second}, {"Query", "Unavailable", time.Second}, {"Revoke", "ok", time.Second}}
	if diff := cmp.Diff(want, calls.seen); diff != "" {
		t.Error(diff)
	}
}
