package aliyun_test

import (
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/aliyun"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/topic"
)

// The canaries hold characters that change when they are escaped.
const (
	canaryToken  = "canary/token+7f3a91c2=="
	canarySecret = "canarySecret51c2e8d0"
	canarySTS    = "canary/sts+99d1b6aa=="
)

// peer is an endpoint that records what reaches it.
type peer struct {
	*httptest.Server

	mu       sync.Mutex
	requests []*http.Request
	opened   int
}

func newPeer(t *testing.T, answer http.HandlerFunc) *peer {
	t.Helper()
	p := &peer{}
	p.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		p.requests = append(p.requests, r)
		p.mu.Unlock()
		answer(w, r)
	}))
	p.Config.ErrorLog = log.New(io.Discard, "", 0)
	p.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			p.mu.Lock()
			p.opened++
			p.mu.Unlock()
		}
	}
	t.Cleanup(p.Close)
	return p
}

// startPeer starts an endpoint with TLS.
func startPeer(t *testing.T, answer http.HandlerFunc) *peer {
	t.Helper()
	p := newPeer(t, answer)
	p.StartTLS()
	return p
}

func (p *peer) seen() []*http.Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]*http.Request(nil), p.requests...)
}

func (p *peer) connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.opened
}

func (p *peer) address() string { return p.Listener.Addr().String() }

func (p *peer) bundle() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Certificate().Raw})
}

func (p *peer) connection() token.Connection {
	c := connectionTo(p.address())
	c.CABundle = p.bundle()
	return c
}

func connectionTo(address string) token.Connection {
	return token.Connection{
		InstanceID:      "post-cn-0pp12gl0001",
		Region:          "cn-hangzhou",
		Endpoint:        address,
		AccessKeyID:     "LTAI5tExample",
		AccessKeySecret: token.NewValue(canarySecret),
		SecurityToken:   token.NewValue(canarySTS),
	}
}

func open(t *testing.T, connection token.Connection, options aliyun.Options) token.Service {
	t.Helper()
	service, err := aliyun.NewVendor(options).Dial(connection)
	if err != nil {
		t.Fatalf("dialing: %v", err)
	}
	return service
}

// answering is a handler with one answer for everything.
func answering(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}
}

// working answers every operation as the service does when all is well.
func working(w http.ResponseWriter, r *http.Request) {
	bodies := map[string]string{
		"ApplyToken":  fmt.Sprintf(`{"RequestId":"R-1","Token":%q}`, canaryToken),
		"QueryToken":  `{"RequestId":"R-2","TokenStatus":true}`,
		"RevokeToken": `{"RequestId":"R-3"}`,
	}
	fmt.Fprint(w, bodies[r.URL.Query().Get("Action")])
}

// waiting answers nothing until the caller goes away.
func waiting(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// breaking sends some bytes of an answer and resets the connection.
func breaking(text func(*http.Request) string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		_, _ = io.WriteString(conn, text(r))
		if secured, ok := conn.(*tls.Conn); ok {
			if raw, ok := secured.NetConn().(*net.TCPConn); ok {
				_ = raw.SetLinger(0)
				_ = raw.Close()
			}
		}
	}
}

func partOfAnAnswer(r *http.Request) string {
	return "HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n{\"Token\":\"" + r.URL.Query().Get("Token")
}

func notHTTP(r *http.Request) string { return r.URL.String() + "\r\n\r\n" }

func scope() token.Scope {
	return token.Scope{Type: token.PublishSubscribe, Topics: []topic.Filter{topic.MustParse("b/#"), topic.MustParse("a/+")}}
}

func expiry() time.Time { return time.Date(2031, 2, 28, 23, 59, 58, 7_999_999, time.UTC) }

// callEach makes one call of each operation.
func callEach(t *testing.T, s token.Service) map[string]error {
	t.Helper()
	_, applyErr := s.Apply(t.Context(), scope(), expiry())
	_, queryErr := s.Query(t.Context(), token.NewValue(canaryToken))
	return map[string]error{
		"Apply":  applyErr,
		"Query":  queryErr,
		"Revoke": s.Revoke(t.Context(), token.NewValue(canaryToken)),
	}
}

// wantFault checks an error's kind and code.
func wantFault(t *testing.T, err error, kind token.Kind, code string) *token.Error {
	t.Helper()
	fault, ok := errors.AsType[*token.Error](err)
	if !ok {
		t.Fatalf("got %v, want a *token.Error", err)
	}
	if fault.Kind != kind || fault.Code != code {
		t.Errorf("got %s %s, want %s %s", fault.Kind, fault.Code, kind, code)
	}
	return fault
}
