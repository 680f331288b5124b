package aliyun

import (
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
)

func TestHostsFollowTheVendorsPattern(t *testing.T) {
	for want, connection := range map[string]token.Connection{
		"onsmqtt.cn-hangzhou.aliyuncs.com":        {Region: "cn-hangzhou"},
		"onsmqtt-vpc.ap-southeast-1.aliyuncs.com": {Region: "ap-southeast-1", VPC: true},
		"onsmqtt.mq-internet-access.aliyuncs.com": {Region: "mq-internet-access"},
		"token.example.com:8443":                  {Region: "cn-hangzhou", VPC: true, Endpoint: "token.example.com:8443"},
		"[::1]:8443":                              {Endpoint: "[::1]:8443"},
	} {
		if got, fault := endpointHost(connection); got != want || fault != nil {
			t.Errorf("got %q, %v, want %q", got, fault, want)
		}
	}
}

// topic.Parse lets no such name through; this is what stands behind it.
func TestJoinedTopicsCannotGrow(t *testing.T) {
	for sentence, names := range map[string][]string{
		"a name with a comma buys a second topic": {"a", "b,c"},
		"a comma at the end":                      {"a,"},
		"a comma at the start":                    {",a"},
		"an empty name beside a name":             {"", "a"},
		"no names":                                {},
	} {
		t.Run(sentence, func(t *testing.T) {
			if joined, err := joinResources(names); err == nil {
				t.Errorf("%q became %q", names, joined)
			}
		})
	}
	names := []string{"b", "a/#", "a"}
	joined, err := joinResources(names)
	if err != nil || joined != "a,a/#,b" || names[0] != "b" {
		t.Errorf("got %q, %v; the names are %q now", joined, err, names)
	}
}

func TestPoolsAreSharedByTrustAndBounded(t *testing.T) {
	pools := newTransportPools()
	first, fault := pools.forBundle(nil)
	if fault != nil {
		t.Fatal(fault)
	}
	if again, _ := pools.forBundle([]byte{}); again != first {
		t.Error("no bundle and an empty one do not share a pool")
	}
	for range 2 * maxPools {
		if _, fault := pools.forBundle([]byte("no certificate")); fault == nil {
			t.Fatal("accepted a bundle without certificates")
		}
	}
	if len(pools.byBundle) != 1 {
		t.Errorf("%d pools are kept", len(pools.byBundle))
	}
}

func FuzzAnswer(f *testing.F) {
	for _, body := range []string{
		`{"RequestId":"R-1","Token":"t"}`, `{"RequestId":"R-1","TokenStatus":true}`, `{"RequestId":"R","Token":""}`, `{"Code":400}`,
		`{"RequestId":"R","Code":"InvalidParameter.Token"}`, `{"Code":"canarySecret51c2e8d0"}`, `null`, `[]`, ``, "{\"Token\":\"\xff\"}",
		`{"Token":"a","Token":null,"RequestId":"R"}`, `{"RequestId":"R","TokenStatus":null}`,
	} {
		f.Add(http.StatusOK, []byte(body), "")
		f.Add(http.StatusBadRequest, []byte(body), "3")
	}
	const secret = "canarySecret51c2e8d0"
	word := regexp.MustCompile(`^[A-Za-z][A-Za-z0-9._-]{0,63}$`)
	f.Fuzz(func(t *testing.T, status int, body []byte, retryAfter string) {
		c := &call{operation: opApply, secrets: []token.Value{token.NewValue(secret)}}
		response := &http.Response{StatusCode: status, Header: http.Header{"Retry-After": {retryAfter}}}
		got, err := readAnswer(c, response, body)
		if err == nil && (status < 200 || status > 299) {
			t.Fatalf("status %d is taken for a success", status)
		}
		var value token.Value
		if err == nil {
			value, err = got.token(c)
			if _, statusErr := got.tokenStatus(c); statusErr == nil && !strings.Contains(string(got.members["TokenStatus"]), "e") {
				t.Fatalf("%s is taken for a status", got.members["TokenStatus"])
			}
		}
		if value.IsZero() != (err != nil) {
			t.Fatalf("zero value: %v, error: %v", value.IsZero(), err)
		}
		if err == nil {
			return
		}
		fault := token.AsError(err)
		if !word.MatchString(fault.Code) || fault.RetryAfter < 0 || fault.RetryAfter > maxRetryAfter {
			t.Fatalf("%#v", fault)
		}
		if printed, _ := json.Marshal(fault); strings.Contains(string(printed)+fault.Error(), secret) {
			t.Fatalf("leaks: %s", printed)
		}
	})
}
