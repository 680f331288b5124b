package wire_test

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aliyun/alibaba-cloud-sdk-go/sdk/auth/credentials"
	"github.com/google/go-cmp/cmp"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/simulator/state"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/simulator/wire"
)

const (
	role     = "acs:ram::a:role/devices"
	provider = "acs:ram::a:oidc-provider/cluster"
)

func withRole(options *state.Options) {
	options.Accounts[0].Roles = []state.Role{{ARN: role, OIDCProviderARN: provider, OIDCSubject: subject}}
}

const subject = "system:serviceaccount:mqtt:manager"

func claims(expires time.Time) string { return claim(subject, `"sts.aliyuncs.com"`, expires) }

func claim(subject, audience string, expires time.Time) string {
	return "e30." + base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, `{"sub":%q,"aud":%s,"exp":%d}`, subject, audience, expires.Unix())) + ".s"
}

// assume makes an unsigned call and returns the status and the body.
func assume(t *testing.T, b *bench, change map[string]string) (int, string) {
	t.Helper()
	form := url.Values{
		"Action": {"AssumeRoleWithOIDC"}, "Version": {"2015-04-01"}, "Timestamp": {time.Now().UTC().Format("2006-01-02T15:04:05Z")},
		"RoleArn": {role}, "OIDCProviderArn": {provider}, "OIDCToken": {claims(time.Now().Add(time.Hour))}, "RoleSessionName": {"s"},
	}
	for name, value := range change {
		form.Set(name, value)
	}
	response, err := b.server.Client().PostForm(b.server.URL, form)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, text(t, response)
}

func text(t *testing.T, response *http.Response) string {
	t.Helper()
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func TestARoleIsAssumedByItsOwnProvidersTokenOnly(t *testing.T) {
	soon := time.Now().Add(time.Hour)
	for sentence, row := range map[string]struct {
		change map[string]string
		status int
		code   string
	}{
		"a good token":             {status: 200, code: "STS."},
		"another provider":         {change: map[string]string{"OIDCProviderArn": "x"}, status: 403, code: "AuthenticationFail.NoPermission"},
		"a role that is none":      {change: map[string]string{"RoleArn": "x"}, status: 404, code: "EntityNotExist.Role"},
		"a token that has ended":   {change: map[string]string{"OIDCToken": claims(time.Now().Add(-time.Hour))}, status: 400, code: "AuthenticationFail.OIDCToken.Expired"},
		"a token that is none":     {change: map[string]string{"OIDCToken": "x"}, status: 400, code: "AuthenticationFail.OIDCToken.Invalid"},
		"one for several services": {change: map[string]string{"OIDCToken": claim(subject, `["x", "sts.aliyuncs.com"]`, soon)}, status: 200, code: "STS."},
		"one for another service":  {change: map[string]string{"OIDCToken": claim(subject, `"x"`, soon)}, status: 403, code: "AuthenticationFail.NoPermission"},
		"one of somebody else":     {change: map[string]string{"OIDCToken": claim("x", `"sts.aliyuncs.com"`, soon)}, status: 403, code: "AuthenticationFail.NoPermission"},
		"an audience that is none": {change: map[string]string{"OIDCToken": claim(subject, "{}", soon)}, status: 400, code: "AuthenticationFail.OIDCToken.Invalid"},
		"no token":                 {change: map[string]string{"OIDCToken": ""}, status: 400, code: "MissingOIDCToken"},
		"too short a session":      {change: map[string]string{"DurationSeconds": "899"}, status: 400, code: "InvalidParameter.DurationSeconds"},
		"too long a session":       {change: map[string]string{"DurationSeconds": "3601"}, status: 400, code: "InvalidParameter.DurationSeconds"},
		"the token API's version":  {change: map[string]string{"Version": "2020-04-20"}, status: 404, code: "InvalidApi.NotFound"},
		"a call from another time": {change: map[string]string{"Timestamp": "2001-01-01T00:00:00Z"}, status: 400, code: "InvalidTimeStamp.Expired"},
	} {
		t.Run(sentence, func(t *testing.T) {
			status, body := assume(t, open(t, withRole), row.change)
			if status != row.status || !strings.Contains(body, `"`+row.code) {
				t.Errorf("%d %s", status, body)
			}
		})
	}
}

func TestATemporaryKeyIsHeldToItsTokenAndItsEnd(t *testing.T) {
	b := open(t, withRole)
	session, err := b.issuer.AssumeRole("key-a", "", state.SessionRequest{RoleARN: role, Name: "s", Life: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	use := func(securityToken string) string {
		credential := &credentials.StsTokenCredential{
			AccessKeyId: session.Key.ID, AccessKeySecret: session.Key.Secret.Reveal(), AccessKeyStsToken: securityToken,
		}
		_, err := b.client(t, credential).ApplyToken(applyRequest(b))
		return codeOf(err)
	}
	good := session.Key.SecurityToken.Reveal()
	got := []string{use(good), use("another"), use("")}
	if err := b.issuer.Advance(time.Hour); err != nil {
		t.Fatal(err)
	}
	got = append(got, use(good))
	want := []string{"", "400 InvalidSecurityToken.MismatchWithAccessKey", "400 MissingSecurityToken", "400 InvalidSecurityToken.Expired"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestAMachineHandsOutItsOwnRoleOnly(t *testing.T) {
	const roles = "/latest/meta-data/ram/security-credentials/"
	b := open(t, withRole)
	for sentence, row := range map[string]struct {
		machine wire.Machine
		path    string
		token   string
		status  int
		holds   string
	}{
		"the role's name":               {machine: wire.Machine{RoleARN: role}, path: roles, status: 200, holds: "devices"},
		"the role's key":                {machine: wire.Machine{RoleARN: role}, path: roles + "devices", status: 200, holds: `"AccessKeyId":"STS.`},
		"another role's key":            {machine: wire.Machine{RoleARN: role}, path: roles + "other", status: 404},
		"no role":                       {path: roles, status: 404},
		"a token that nobody gave":      {machine: wire.Machine{RoleARN: role}, path: roles, token: "x", status: 403},
		"no token where one is a must":  {machine: wire.Machine{RoleARN: role, TokenOnly: true}, path: roles, status: 403},
		"anything else that there is":   {machine: wire.Machine{RoleARN: role}, path: "/latest/meta-data/", status: 404},
		"the token by a request to get": {machine: wire.Machine{RoleARN: role}, path: "/latest/api/token", status: 405},
	} {
		t.Run(sentence, func(t *testing.T) {
			request := httptest.NewRequest(http.MethodGet, row.path, http.NoBody)
			if row.token != "" {
				request.Header.Set("X-aliyun-ecs-metadata-token", row.token)
			}
			recorder := httptest.NewRecorder()
			b.handler.Metadata(row.machine).ServeHTTP(recorder, request)
			if recorder.Code != row.status || !strings.Contains(recorder.Body.String(), row.holds) {
				t.Errorf("%d %s", recorder.Code, recorder.Body)
			}
		})
	}
}
