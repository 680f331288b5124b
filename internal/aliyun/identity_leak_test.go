package aliyun_test

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/aliyun"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/simulator/wire"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
)

// whole is everything that a request holds, in a form that fits a word of an answer or not.
func whole(r *http.Request) string {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(err)
	}
	return r.URL.String() + " " + string(body)
}

// grudging answers with keys and something wrong with them.
func grudging(wrong map[string]any) http.HandlerFunc {
	inner := map[string]any{
		"AccessKeyId": "STS.x", "AccessKeySecret": canarySecret, "SecurityToken": canarySTS, "Expiration": "2031-03-05T07:11:13Z", "Code": "Success",
	}
	maps.Copy(inner, wrong)
	outer := map[string]any{"Credentials": inner}
	maps.Copy(outer, inner) // the metadata service's form
	body, err := json.Marshal(outer)
	if err != nil {
		panic(err)
	}
	return answering(http.StatusOK, string(body))
}

// signatureOf is the last part of a service account's token.
func signatureOf(text string) string { return text[strings.LastIndex(text, ".")+1:] }

// leakyPeers answer with what they were told, or with keys, in every place there is.
func leakyPeers() map[string]http.HandlerFunc {
	return map[string]http.HandlerFunc{
		"an echo of everything":            echoing(whole),
		"an echo of the service account's": echoing(func(r *http.Request) string { return signatureOf(r.FormValue("OIDCToken")) }),
		"an echo of the external id":       echoing(func(r *http.Request) string { return r.FormValue("ExternalId") }),
		"an echo of the session's":         echoing(func(r *http.Request) string { return r.FormValue("SecurityToken") }),
		"a key that was not sent": echoing(func(r *http.Request) string {
			if r.FormValue("AccessKeyId") == "" {
				return "NotYours"
			}
			return canarySecret
		}),
		"garbage":               func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, whole(r)) },
		"garbage with an error": func(w http.ResponseWriter, r *http.Request) { http.Error(w, whole(r), http.StatusBadGateway) },
		"an odd error": func(w http.ResponseWriter, r *http.Request) {
			answering(http.StatusBadRequest, fmt.Sprintf(`{"Code":[%q]}`, whole(r)))(w, r)
		},
		"reset in mid-answer":       breaking(whole),
		"a status line of its own":  breaking(func(r *http.Request) string { return "HTTP/1.1 " + whole(r) + "\r\n\r\n" }),
		"keys without an end":       grudging(map[string]any{"Expiration": nil}),
		"keys with an odd end":      grudging(map[string]any{"Expiration": canarySecret}),
		"keys without a secret":     grudging(map[string]any{"AccessKeySecret": nil}),
		"keys with an empty secret": grudging(map[string]any{"AccessKeySecret": ""}),
		"keys of an odd form":       grudging(map[string]any{"AccessKeySecret": []string{canarySecret}}),
		"keys that are no success":  grudging(map[string]any{"Code": canarySecret, "Expiration": canarySTS}),
		"a redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://example.com"+r.URL.String(), http.StatusTemporaryRedirect)
		},
	}
}

func TestNoIdentityLeaksASecret(t *testing.T) {
	assume := token.AssumedRole{RoleARN: guardedRoleARN, ExternalID: token.NewValue(canaryExternal)}
	for name, handler := range leakyPeers() {
		t.Run(name, func(t *testing.T) {
			c := startCloud(t, wire.Machine{})
			metadata := httptest.NewServer(handler)
			t.Cleanup(metadata.Close)
			c.install(t, startPeer(t, handler), metadata.URL)
			for who, identity := range map[string]token.Identity{
				"the service account": c.rrsa(), "the machine": {Type: token.IdentityECSRAMRole, RoleName: "mqtt"},
				"a key with a role": {Assume: assume},
			} {
				connection := c.connection
				connection.Identity = identity
				connection.SecurityToken = token.NewValue(canarySTS)
				service, err := c.vendor.Dial(connection)
				if err != nil {
					t.Fatal(err)
				}
				if err := apply(t, service); err == nil {
					t.Errorf("%s worked", who)
				} else {
					wantNothingPrinted(t, who, err)
				}
				if _, err := c.vendor.AccountID(t.Context(), connection); err == nil {
					t.Errorf("%s has an account", who)
				} else {
					wantNothingPrinted(t, who, err)
				}
				wantNoCanary(t, who, fmt.Sprintf("%v %+v %#v %v %+v %#v", service, service, service, connection, identity, identity))
			}
			wantNoCanary(t, "the vendor", fmt.Sprintf("%v %+v %#v", c.vendor, c.vendor, c.vendor))
		})
	}
}

func TestTheAccountOfAStaticKeyNeedsNoTransport(t *testing.T) {
	c := startCloud(t, wire.Machine{})
	if err := c.issuer.Advance(time.Second); err != nil {
		t.Fatal(err)
	}
	vendor := aliyun.NewVendor(aliyun.Options{CallTimeout: 5 * time.Second})
	_, err := vendor.AccountID(t.Context(), c.connection) // by the system's certificates, which do not vouch for the stand-in
	wantFault(t, err, token.KindInstance, "STSUntrustedCertificate")
	wantNothingPrinted(t, "Identify", err)
}
