package aliyun_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/aliyun"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
)

func TestCodesOfTheServiceAreSortedByRemedy(t *testing.T) {
	for code, tc := range map[string]struct {
		status int
		want   token.Kind
	}{
		"ApplyTokenOverFlow":            {400, token.KindThrottled},
		"QueryTokenOverFlow":            {400, token.KindThrottled},
		"RevokeTokenOverFlow":           {400, token.KindThrottled},
		"SystemOverFlow":                {500, token.KindThrottled},
		"Throttling":                    {400, token.KindThrottled},
		"Throttling.User":               {400, token.KindThrottled},
		"PermissionCheckFailed":         {400, token.KindDenied},
		"InstancePermissionCheckFailed": {400, token.KindInstance},
		"CheckAccountInfoFailed":        {400, token.KindInstance},
		"InvalidAccessKeyId.NotFound":   {404, token.KindInstance},
		"InvalidAccessKeyId.Inactive":   {400, token.KindInstance},
		"SignatureDoesNotMatch":         {400, token.KindInstance},
		"IncompleteSignature":           {400, token.KindInstance},
		"InvalidSecurityToken.Expired":  {400, token.KindInstance},
		"InvalidTimeStamp.Expired":      {400, token.KindInstance},
		"InvalidTimeStamp.Format":       {400, token.KindInstance},
		"NoPermission":                  {403, token.KindInstance},
		"Forbidden.RAM":                 {403, token.KindInstance},
		"ApiNotSupport":                 {404, token.KindInstance},
		"InvalidApi.NotFound":           {404, token.KindInstance},
		"ParameterCheckFailed":          {400, token.KindInvalid},
		"InvalidParameter.ExpireTime":   {400, token.KindInvalid},
		"MissingInstanceId":             {400, token.KindInvalid},
		"InternalError":                 {500, token.KindUnavailable},
		"ServiceUnavailable":            {503, token.KindUnavailable},
		"SignatureNonceUsed":            {400, token.KindUnavailable},
		"SomethingNew.NeverSeen":        {400, token.KindUnavailable},
	} {
		t.Run(code, func(t *testing.T) {
			p := startPeer(t, answering(tc.status, fmt.Sprintf(`{"RequestId":"07AB2E7F-1","Code":%q,"Message":"m"}`, code)))
			_, err := open(t, p.connection(), aliyun.Options{}).Apply(t.Context(), scope(), expiry())
			fault := wantFault(t, err, tc.want, code)
			if fault.RequestID != "07AB2E7F-1" || fault.Op != "Apply" {
				t.Errorf("request %q, operation %q", fault.RequestID, fault.Op)
			}
			if (fault.Hint == "") != (tc.want == token.KindUnavailable) {
				t.Errorf("hint %q", fault.Hint)
			}
		})
	}
}

func TestAnswersWithoutACode(t *testing.T) {
	for sentence, tc := range map[string]struct {
		status int
		body   string
		kind   token.Kind
		code   string
	}{
		"a gateway's error page":       {502, "<html>Bad Gateway</html>", token.KindUnavailable, "UnreadableAnswer"},
		"a proxy's refusal":            {403, "denied", token.KindUnavailable, "UnreadableAnswer"},
		"an empty error":               {500, "", token.KindUnavailable, "UnreadableAnswer"},
		"an object without code":       {400, "{}", token.KindUnavailable, "UnreadableAnswer"},
		"a gateway that sets a limit":  {429, "slow down", token.KindThrottled, "TooManyRequests"},
		"a redirect without an object": {302, "", token.KindInstance, "Redirected"},
	} {
		t.Run(sentence, func(t *testing.T) {
			p := startPeer(t, answering(tc.status, tc.body))
			for _, err := range callEach(t, open(t, p.connection(), aliyun.Options{})) {
				wantFault(t, err, tc.kind, tc.code)
			}
		})
	}
}

func TestRetryAfterIsReadAndBounded(t *testing.T) {
	for header, want := range map[string]time.Duration{
		"":                              0,
		"7":                             7 * time.Second,
		"-7":                            0,
		"999999":                        time.Hour,
		"99999999999999999999":          0,
		"Fri, 28 Feb 2031 23:59:58 GMT": 0,
	} {
		p := startPeer(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Retry-After", header)
			answering(http.StatusBadRequest, `{"RequestId":"R","Code":"Throttling.User"}`)(w, r)
		})
		_, err := open(t, p.connection(), aliyun.Options{}).Query(t.Context(), token.NewValue(canaryToken))
		if got := wantFault(t, err, token.KindThrottled, "Throttling.User").RetryAfter; got != want {
			t.Errorf("%q became %v, want %v", header, got, want)
		}
	}
}

func TestCodesThatAreNoCodesAreDropped(t *testing.T) {
	for sentence, code := range map[string]string{
		"a sentence":            "the key is abc",
		"control characters":    "Internal\x1b[31mError",
		"longer than any":       strings.Repeat("A", 65),
		"the secret itself":     canarySecret,
		"the secret as a part":  "InvalidParameter." + canarySecret,
		"a part of the secret":  canarySecret[:12],
		"a line that is forged": "InternalError\nlevel=info",
	} {
		t.Run(sentence, func(t *testing.T) {
			body, err := json.Marshal(map[string]string{"RequestId": code, "Code": code})
			if err != nil {
				t.Fatal(err)
			}
			p := startPeer(t, answering(http.StatusBadRequest, string(body)))
			_, err = open(t, p.connection(), aliyun.Options{}).Query(t.Context(), token.NewValue(canaryToken))
			if fault := wantFault(t, err, token.KindUnavailable, "UnknownCode"); strings.Contains(fault.RequestID, canarySecret[:8]) {
				t.Errorf("request id %q", fault.RequestID)
			}
		})
	}
}
