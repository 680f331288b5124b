package aliyun_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/aliyun"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
)

// forbidden lists what no text of ours may hold.
func forbidden() []string {
	texts := []string{"Signature=", "Signature%3D"}
	for _, canary := range []string{canaryToken, canarySecret, canarySTS, canaryExternal, canaryOIDC} {
		texts = append(texts, canary, url.QueryEscape(canary), url.PathEscape(canary), url.QueryEscape(url.QueryEscape(canary)),
			base64.RawStdEncoding.EncodeToString([]byte(canary)), base64.RawURLEncoding.EncodeToString([]byte(canary)))
	}
	return texts
}

func wantNoCanary(t *testing.T, where, text string) {
	t.Helper()
	for _, secret := range forbidden() {
		if strings.Contains(text, secret) {
			t.Errorf("%s holds %q: %s", where, secret, text)
		}
	}
}

// echoing repeats the whole request, secrets first, in each place of an error that an endpoint can fill.
func echoing(text func(*http.Request) string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := json.Marshal(map[string]any{
			"Code": text(r), "RequestId": text(r), "HostId": text(r), "Recommend": text(r), "AccessDeniedDetail": map[string]string{"a": text(r)},
			"Message": "Specified signature is not matched with our calculation. server string to sign is:" + r.URL.RawQuery,
		})
		if err != nil {
			panic(err)
		}
		w.Header().Set("Retry-After", text(r))
		answering(http.StatusBadRequest, string(body))(w, r)
	}
}

// faultyEndpoints opens one connection for each way in which a call can fail.
func faultyEndpoints(t *testing.T) map[string]token.Connection {
	t.Helper()
	connections := map[string]token.Connection{}
	for name, answer := range map[string]http.HandlerFunc{
		"reset in mid-answer":      breaking(partOfAnAnswer),
		"not HTTP":                 breaking(notHTTP),
		"a status line of its own": breaking(func(r *http.Request) string { return "HTTP/1.1 " + r.URL.String() + "\r\n\r\n" }),
		"a header that is none":    breaking(func(r *http.Request) string { return "HTTP/1.1 200 OK\r\n" + r.URL.RawQuery + "\r\n\r\n" }),
		"no answer":                waiting,
		"a refusal":                answering(http.StatusBadRequest, `{"RequestId":"R","Code":"PermissionCheckFailed"}`),
		"an outage":                answering(http.StatusInternalServerError, `{"RequestId":"R","Code":"InternalError"}`),
		"garbage":                  func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.URL) },
		"garbage with an error":    func(w http.ResponseWriter, r *http.Request) { http.Error(w, r.URL.String(), http.StatusBadGateway) },
		"an odd body":              answering(http.StatusBadRequest, `{"Code":400}`),
		"an echo of the query":     echoing(func(r *http.Request) string { return r.URL.RawQuery }),
		"an echo of the token":     echoing(func(r *http.Request) string { return r.URL.Query().Get("Token") }),
		"an echo of the STS token": echoing(func(r *http.Request) string {
			return strings.ReplaceAll(base64.URLEncoding.EncodeToString([]byte(r.URL.Query().Get("SecurityToken"))), "=", "")
		}),
		"an echo of the key":        echoing(func(*http.Request) string { return canarySecret }),
		"a known code with an echo": echoing(func(*http.Request) string { return "InvalidParameter." + canarySecret }),
		"the string to sign": func(w http.ResponseWriter, r *http.Request) {
			answering(http.StatusBadRequest, fmt.Sprintf(`{"RequestId":"R","Code":"SignatureDoesNotMatch","Message":%q}`, "server string to sign is:"+r.URL.RawQuery))(w, r)
		},
		"a redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://example.com"+r.URL.String(), http.StatusTemporaryRedirect)
		},
		"a token without request id": answering(http.StatusOK, fmt.Sprintf(`{"Token":%q}`, canaryToken)),
	} {
		connections[name] = startPeer(t, answer).connection()
	}
	untrusted := startPeer(t, working).connection()
	untrusted.CABundle = nil
	closed := startPeer(t, working)
	closed.Close()
	plain := newPeer(t, working)
	plain.Start()
	maps.Copy(connections, map[string]token.Connection{
		"an untrusted certificate": untrusted,
		"a refused connection":     connectionTo(closed.address()),
		"an endpoint without TLS":  connectionTo(plain.address()),
		"a host that is none":      connectionTo("host.invalid"),
	})
	return connections
}

func TestNoErrorHoldsASecret(t *testing.T) {
	for name, connection := range faultyEndpoints(t) {
		t.Run(name, func(t *testing.T) {
			s := open(t, connection, aliyun.Options{CallTimeout: time.Second / 4})
			for operation, err := range callEach(t, s) {
				if err == nil {
					t.Errorf("%s worked", operation)
					continue
				}
				wantNothingPrinted(t, operation, err)
			}
			wantNoCanary(t, "the service itself", fmt.Sprintf("%v %+v %#v", s, s, s))
		})
	}
}

// wantNothingPrinted prints an error in every way, and each error that it wraps.
func wantNothingPrinted(t *testing.T, operation string, err error) {
	t.Helper()
	for ; err != nil; err = errors.Unwrap(err) {
		asJSON, jsonErr := json.Marshal(err)
		if jsonErr != nil {
			t.Errorf("%s: %v", operation, jsonErr)
		}
		wantNoCanary(t, operation, fmt.Sprintf("%v\n%+v\n%#v\n%q\n%s", err, err, err, err, asJSON))
	}
}
