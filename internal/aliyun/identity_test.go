package aliyun_test

import (
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/aliyun"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/simulator/state"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/simulator/wire"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
)

const (
	roleARN        = "acs:ram::1001:role/mqtt"
	guardedRoleARN = "acs:ram::1001:role/guarded"
	providerARN    = "acs:ram::1001:oidc-provider/cluster"
	canaryExternal = "canary-external-4411aa"
	canaryOIDC     = "canarySignature77aa01"
)

// cloud is the simulator with roles, and a vendor that the stand-ins are reached by.
type cloud struct {
	issuer     *state.State
	handler    *wire.Handler
	api        *peer
	vendor     *aliyun.Vendor
	wall       *clocktesting.FakeClock
	providers  *http.Transport
	tokenFile  string
	connection token.Connection
}

func startCloud(t *testing.T, machine wire.Machine) *cloud {
	t.Helper()
	issuer, err := state.New(state.Options{
		Accounts: []state.Account{{
			ID:   "1001",
			Keys: []state.Key{{ID: "LTAI5tExample", Secret: token.NewValue(canarySecret)}},
			Roles: []state.Role{
				{ARN: roleARN, OIDCProviderARN: providerARN},
				{ARN: guardedRoleARN, ExternalID: canaryExternal},
			},
		}},
		Instances: []state.Instance{{ID: "post-cn-0pp12gl0001", Region: "cn-hangzhou", Account: "1001"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	c := &cloud{issuer: issuer, handler: wire.NewHandler(issuer, clock.RealClock{}), wall: clocktesting.NewFakeClock(time.Now())}
	c.api = startPeer(t, c.handler.ServeHTTP)
	metadata := httptest.NewServer(c.handler.Metadata(machine))
	t.Cleanup(metadata.Close)
	c.install(t, c.api, metadata.URL)
	c.tokenFile = filepath.Join(t.TempDir(), "token")
	c.present(t, oidcToken(c.issuer.Now().Add(24*time.Hour)))
	c.connection = c.api.connection()
	c.connection.SecurityToken = token.Value{}
	return c
}

// install makes the vendor, and its transport the process's, as the manager does. The stand-ins are trusted and found.
func (c *cloud) install(t *testing.T, sts *peer, metadata string) {
	t.Helper()
	for _, name := range []string{
		"ROLE_ARN", "OIDC_PROVIDER_ARN", "OIDC_TOKEN_FILE", "STS_ENDPOINT", "STS_REGION", "VPC_ENDPOINT_ENABLED", "ACCESS_KEY_ID",
		"ACCESS_KEY_SECRET", "SECURITY_TOKEN", "ECS_METADATA", "ECS_METADATA_DISABLED", "IMDSV1_DISABLED", "ROLE_SESSION_NAME",
	} {
		t.Setenv("ALIBABA_CLOUD_"+name, "")
	}
	t.Setenv("ALIBABA_CLOUD_STS_ENDPOINT", sts.address())
	c.providers = aliyun.NewProviderTransport()
	c.providers.TLSClientConfig.RootCAs = x509.NewCertPool()
	c.providers.TLSClientConfig.RootCAs.AddCert(sts.Certificate())
	standIn, err := url.Parse(metadata)
	if err != nil {
		t.Fatal(err)
	}
	proxy := c.providers.Proxy
	c.providers.Proxy = func(r *http.Request) (*url.URL, error) {
		if asked, err := proxy(r); asked != nil || err != nil || r.URL.Host != "100.100.100.200" {
			return asked, err
		}
		return standIn, nil
	}
	before := http.DefaultTransport
	http.DefaultTransport = c.providers
	t.Cleanup(func() { http.DefaultTransport = before })
	c.vendor = aliyun.NewVendor(aliyun.Options{Providers: c.providers, Now: c.wall.Now})
}

// oidcToken is a service account's token as far as anybody here looks into it.
func oidcToken(expires time.Time) string {
	claims := fmt.Sprintf(`{"sub":"system:serviceaccount:mqtt:manager","aud":["sts.aliyuncs.com"],"exp":%d}`, expires.Unix())
	return "e30." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + "." + canaryOIDC
}

func (c *cloud) present(t *testing.T, text string) {
	t.Helper()
	if err := os.WriteFile(c.tokenFile, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (c *cloud) rrsa() token.Identity {
	return token.Identity{Type: token.IdentityRRSA, RoleARN: roleARN, OIDCProviderARN: providerARN, TokenFile: c.tokenFile}
}

// as opens the instance as somebody.
func (c *cloud) as(t *testing.T, identity token.Identity) token.Service {
	t.Helper()
	connection := c.connection
	connection.Identity = identity
	if identity.Type != token.IdentityAccessKey {
		connection.AccessKeyID, connection.AccessKeySecret = "", token.Value{}
	}
	service, err := c.vendor.Dial(connection)
	if err != nil {
		t.Fatal(err)
	}
	return service
}

func apply(t *testing.T, s token.Service) error {
	t.Helper()
	_, err := s.Apply(t.Context(), scope(), time.Now().Add(48*time.Hour))
	return err
}

func (c *cloud) webhook(t *testing.T) {
	t.Helper()
	t.Setenv("ALIBABA_CLOUD_ROLE_ARN", roleARN)
	t.Setenv("ALIBABA_CLOUD_OIDC_PROVIDER_ARN", providerARN)
	t.Setenv("ALIBABA_CLOUD_OIDC_TOKEN_FILE", c.tokenFile)
}

func TestEveryIdentityGetsTokens(t *testing.T) {
	guarded := token.AssumedRole{RoleARN: guardedRoleARN, ExternalID: token.NewValue(canaryExternal)}
	for sentence, row := range map[string]struct {
		machine  wire.Machine
		prepare  func(*testing.T, *cloud)
		identity func(*cloud) token.Identity
		key      string
	}{
		"a role of the service account":               {identity: (*cloud).rrsa},
		"a role of the service account and another":   {identity: func(c *cloud) token.Identity { i := c.rrsa(); i.Assume = guarded; return i }},
		"a role of the service account by webhook":    {prepare: func(t *testing.T, c *cloud) { c.webhook(t) }, identity: func(*cloud) token.Identity { return token.Identity{Type: token.IdentityRRSA} }},
		"a key and a role":                            {identity: func(*cloud) token.Identity { return token.Identity{Assume: guarded} }},
		"a key alone":                                 {identity: func(*cloud) token.Identity { return token.Identity{} }, key: "LTAI5tExample"},
		"the machine's role":                          {machine: wire.Machine{RoleARN: roleARN}, identity: func(*cloud) token.Identity { return token.Identity{Type: token.IdentityECSRAMRole} }},
		"the machine's role by name":                  {machine: wire.Machine{RoleARN: roleARN}, identity: func(*cloud) token.Identity { return token.Identity{Type: token.IdentityECSRAMRole, RoleName: "mqtt"} }},
		"the machine's role where it wants a token":   {machine: wire.Machine{RoleARN: roleARN, TokenOnly: true}, identity: func(*cloud) token.Identity { return token.Identity{Type: token.IdentityECSRAMRole} }},
		"the machine's role and another":              {machine: wire.Machine{RoleARN: roleARN}, identity: func(*cloud) token.Identity { return token.Identity{Type: token.IdentityECSRAMRole, Assume: guarded} }},
		"whatever there is: the machine's role":       {machine: wire.Machine{RoleARN: roleARN}, identity: func(*cloud) token.Identity { return token.Identity{Type: token.IdentityAmbient} }},
		"whatever there is: the service account's":    {machine: wire.Machine{RoleARN: guardedRoleARN}, prepare: func(t *testing.T, c *cloud) { c.webhook(t) }, identity: func(*cloud) token.Identity { return token.Identity{Type: token.IdentityAmbient} }},
		"whatever there is: a key of the environment": {prepare: withKey, identity: func(*cloud) token.Identity { return token.Identity{Type: token.IdentityAmbient} }, key: "LTAI5tExample"},
		"a key of the environment and a role":         {prepare: withKey, identity: func(*cloud) token.Identity { return token.Identity{Type: token.IdentityAmbient, Assume: guarded} }},
	} {
		t.Run(sentence, func(t *testing.T) {
			c := startCloud(t, row.machine)
			if row.prepare != nil {
				row.prepare(t, c)
			}
			identity := row.identity(c)
			service := c.as(t, identity)
			for range 3 {
				if err := apply(t, service); err != nil {
					t.Fatal(err)
				}
			}
			if key := c.issuer.Tokens()[0].KeyID; key != row.key && (row.key != "" || !strings.HasPrefix(key, "STS.")) {
				t.Errorf("signed with %q", key)
			}
			connection := c.connection
			connection.Identity = identity
			if account, err := c.vendor.AccountID(t.Context(), connection); account != "1001" || err != nil {
				t.Errorf("account %q, %v", account, err)
			}
			calls := c.handler.Calls()
			if total := calls[state.AssumeRole].Total + calls[state.AssumeRoleWithOIDC].Total; total > 2 {
				t.Errorf("roles were assumed %d times", total)
			}
		})
	}
}

func withKey(t *testing.T, c *cloud) {
	t.Helper()
	c.webhook(t)
	t.Setenv("ALIBABA_CLOUD_ACCESS_KEY_ID", "LTAI5tExample")
	t.Setenv("ALIBABA_CLOUD_ACCESS_KEY_SECRET", canarySecret)
}

func TestWhatIsInTheWayOfAKeyHasItsOwnWord(t *testing.T) {
	failing := func(f wire.Fault) func(*testing.T, *cloud) {
		return func(t *testing.T, c *cloud) {
			t.Helper()
			if err := c.handler.SetFaults(wire.Faults{Calls: []wire.Fault{f}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	redirect := func(t *testing.T, c *cloud) {
		t.Helper()
		away := startPeer(t, func(_ http.ResponseWriter, r *http.Request) { t.Errorf("followed to %s", r.URL.Path) })
		sts := startPeer(t, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, away.URL+"/elsewhere", http.StatusTemporaryRedirect)
		})
		c.providers.TLSClientConfig.RootCAs.AddCert(away.Certificate())
		t.Setenv("ALIBABA_CLOUD_STS_ENDPOINT", sts.address())
	}
	machine := func(*cloud) token.Identity { return token.Identity{Type: token.IdentityECSRAMRole} }
	ambient := func(*cloud) token.Identity { return token.Identity{Type: token.IdentityAmbient} }
	for sentence, row := range map[string]struct {
		prepare  func(*testing.T, *cloud)
		identity func(*cloud) token.Identity
		kind     token.Kind
		code     string
	}{
		"a role that does not exist": {
			identity: func(c *cloud) token.Identity { i := c.rrsa(); i.RoleARN += "x"; return i }, kind: token.KindInstance, code: "EntityNotExist.Role",
		},
		"a role that trusts another provider": {
			identity: func(c *cloud) token.Identity { i := c.rrsa(); i.OIDCProviderARN += "x"; return i }, kind: token.KindInstance, code: "AuthenticationFail.NoPermission",
		},
		"a role that wants another external id": {
			identity: func(*cloud) token.Identity {
				return token.Identity{Assume: token.AssumedRole{RoleARN: guardedRoleARN, ExternalID: token.NewValue("canary-external-0000")}}
			},
			kind: token.KindInstance, code: "NoPermission",
		},
		"a service account's token that has expired": {
			prepare: func(t *testing.T, c *cloud) { c.present(t, oidcToken(time.Now().Add(-time.Minute))) }, kind: token.KindInstance, code: "AuthenticationFail.OIDCToken.Expired",
		},
		"a service account's token that is none": {
			prepare: func(t *testing.T, c *cloud) { c.present(t, "no.token") }, kind: token.KindInstance, code: "AuthenticationFail.OIDCToken.Invalid",
		},
		"no token file":       {prepare: func(_ *testing.T, c *cloud) { _ = os.Remove(c.tokenFile) }, kind: token.KindInstance, code: "TokenFileUnreadable"},
		"an empty token file": {prepare: func(t *testing.T, c *cloud) { c.present(t, "") }, kind: token.KindInstance, code: "TokenFileUnreadable"},
		"nobody listens": {
			prepare: func(t *testing.T, _ *cloud) { t.Setenv("ALIBABA_CLOUD_STS_ENDPOINT", "127.0.0.1:1") }, kind: token.KindInstance, code: "STSUnreachable",
		},
		"a certificate that nobody vouches for": {
			prepare: func(_ *testing.T, c *cloud) { c.providers.TLSClientConfig.RootCAs = x509.NewCertPool() }, kind: token.KindInstance, code: "STSUntrustedCertificate",
		},
		"a redirect":              {prepare: redirect, kind: token.KindInstance, code: "STSRedirected"},
		"an outage":               {prepare: failing(wire.Fault{Kind: wire.FaultOutage, Operation: state.AssumeRoleWithOIDC}), code: "STSConnectionLost"},
		"an error of the service": {prepare: failing(wire.Fault{Kind: wire.FaultError, Operation: state.AssumeRoleWithOIDC}), code: "ServiceUnavailable"},
		"no JSON":                 {prepare: failing(wire.Fault{Kind: wire.FaultGarbage, Operation: state.AssumeRoleWithOIDC}), code: "UnreadableCredentials"},
		"an error that the SDK panics at": {
			prepare: failing(wire.Fault{Kind: wire.FaultOddError, Operation: state.AssumeRoleWithOIDC}), code: "UnreadableCredentials",
		},
		"a machine without a role":              {identity: machine, kind: token.KindInstance, code: "MetadataUnavailable"},
		"a metadata service that is not to ask": {prepare: forbidMetadata, identity: machine, kind: token.KindInstance, code: "MetadataDisabled"},
		"nothing in the environment":            {prepare: forbidMetadata, identity: ambient, kind: token.KindInstance, code: "NoAmbientIdentity"},
		"half of a role in the environment": {
			identity: func(*cloud) token.Identity { return token.Identity{Type: token.IdentityRRSA} }, kind: token.KindInstance, code: "IncompleteIdentity",
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			c := startCloud(t, wire.Machine{})
			if row.prepare != nil {
				row.prepare(t, c)
			}
			identity := (*cloud).rrsa
			if row.identity != nil {
				identity = row.identity
			}
			err := apply(t, c.as(t, identity(c)))
			fault := wantFault(t, err, row.kind, row.code)
			if fault.Op != "Apply" || row.kind == token.KindInstance && fault.Hint == "" {
				t.Errorf("%#v", fault)
			}
			wantNothingPrinted(t, sentence, err)
		})
	}
}

func forbidMetadata(t *testing.T, _ *cloud) {
	t.Helper()
	t.Setenv("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "true")
}

func TestTheTokenFileIsReadAtEachRefresh(t *testing.T) {
	c := startCloud(t, wire.Machine{})
	c.present(t, oidcToken(time.Now().Add(-time.Minute)))
	service := c.as(t, c.rrsa())
	wantFault(t, apply(t, service), token.KindInstance, "AuthenticationFail.OIDCToken.Expired")
	c.present(t, oidcToken(time.Now().Add(time.Hour)))
	c.wall.Step(time.Minute)
	if err := apply(t, service); err != nil {
		t.Error(err)
	}
}

func TestKeysThatEndEarlyAreReplaced(t *testing.T) {
	c := startCloud(t, wire.Machine{})
	service := c.as(t, c.rrsa())
	if err := apply(t, service); err != nil {
		t.Fatal(err)
	}
	if err := c.issuer.Advance(2 * time.Hour); err != nil { // for the service only
		t.Fatal(err)
	}
	c.wall.Step(time.Minute)
	err := apply(t, service)
	wantFault(t, err, token.KindInstance, "InvalidSecurityToken.Expired")
	wantNothingPrinted(t, "Apply", err)
	if err := apply(t, service); err != nil {
		t.Error(err)
	}
}

func TestAmbientIsNotStuckWithWhatFailed(t *testing.T) {
	c := startCloud(t, wire.Machine{})
	service := c.as(t, token.Identity{Type: token.IdentityAmbient})
	wantFault(t, apply(t, service), token.KindInstance, "MetadataUnavailable")
	c.webhook(t)
	c.wall.Step(time.Minute)
	if err := apply(t, service); err != nil {
		t.Error(err)
	}
}

func TestEqualIdentitiesShareTheirKeys(t *testing.T) {
	c := startCloud(t, wire.Machine{})
	for range 4 {
		if err := apply(t, c.as(t, c.rrsa())); err != nil {
			t.Fatal(err)
		}
	}
	if total := c.handler.Calls()[state.AssumeRoleWithOIDC].Total; total != 1 {
		t.Errorf("the role was assumed %d times", total)
	}
}

func TestIdentitiesThatCanNeverWorkAreNotDialed(t *testing.T) {
	c := startCloud(t, wire.Machine{})
	for sentence, row := range map[string]struct {
		identity token.Identity
		bare     bool
		code     string
	}{
		"a manager without the transport":   {identity: c.rrsa(), bare: true, code: "IdentityNotServed"},
		"a type that nobody knows":          {identity: token.Identity{Type: "Magic"}, code: "UnknownIdentity"},
		"a role name that leads elsewhere":  {identity: token.Identity{Type: token.IdentityECSRAMRole, RoleName: "../../x"}, code: "InvalidRoleName"},
		"an external id for no role at all": {identity: token.Identity{Assume: token.AssumedRole{ExternalID: token.NewValue(canaryExternal)}}, code: "IncompleteIdentity"},
	} {
		t.Run(sentence, func(t *testing.T) {
			vendor := c.vendor
			if row.bare {
				vendor = aliyun.NewVendor(aliyun.Options{})
			}
			connection := c.connection
			connection.Identity = row.identity
			_, err := vendor.Dial(connection)
			wantFault(t, err, token.KindInstance, row.code)
			_, err = vendor.AccountID(t.Context(), connection)
			wantFault(t, err, token.KindInstance, row.code)
		})
	}
}
