package aliyun

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aliyun/alibaba-cloud-sdk-go/sdk/requests"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
)

const (
	// connectTimeout bounds the TCP handshake and, once more, the TLS handshake.
	connectTimeout = 5 * time.Second
	// idlePerHost keeps the connections of a burst open for the next one: the account's quota is 100 calls of a kind
	// per second, so more than this are never busy together for long.
	idlePerHost = 128
	idleTimeout = 50 * time.Second
	// maxAnswer is far above any answer of the service: a token of 344 characters and a request id.
	maxAnswer       = 1 << 20
	maxAnswerHeader = 64 << 10
	// maxPools bounds what is kept for CA bundles that somebody edits again and again.
	maxPools = 64
)

// transportPools keeps one pool of connections for each set of trusted certificates, so that services of one endpoint
// share connections and services that trust differently never do.
type transportPools struct {
	mu       sync.Mutex
	byBundle map[[sha256.Size]byte]*http.Transport
}

func newTransportPools() *transportPools {
	return &transportPools{byBundle: map[[sha256.Size]byte]*http.Transport{}}
}

func (p *transportPools) forBundle(bundle []byte) (*http.Transport, *token.Error) {
	key := sha256.Sum256(bundle)
	p.mu.Lock()
	defer p.mu.Unlock()
	if transport, known := p.byBundle[key]; known {
		return transport, nil
	}
	var roots *x509.CertPool // nil: the system's
	if len(bundle) > 0 {
		roots = x509.NewCertPool()
		if !roots.AppendCertsFromPEM(bundle) {
			return nil, dialFault(codeInvalidCABundle, "the CA bundle holds no certificate in PEM form")
		}
	}
	if len(p.byBundle) >= maxPools {
		clear(p.byBundle) // services hold on to their own; idle connections close by themselves
	}
	p.byBundle[key] = newTransport(roots)
	return p.byBundle[key], nil
}

// newTransport returns a transport that never follows redirects (it is used without http.Client) and never repeats a
// call that may have reached the service (POST without an idempotency key).
func newTransport(roots *x509.CertPool) *http.Transport {
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: connectTimeout}).DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
		TLSHandshakeTimeout:    connectTimeout,
		MaxIdleConnsPerHost:    idlePerHost,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxAnswerHeader,
		DisableCompression:     true,
	}
}

// call is one request on its way, and what must not show up in its error.
type call struct {
	operation string
	request   requests.AcsRequest
	secrets   []token.Value
}

func (s *service) newCall(operation string, request requests.AcsRequest, secrets ...token.Value) *call {
	secrets = append(secrets, s.connection.AccessKeySecret, s.connection.SecurityToken)
	return &call{operation: operation, request: request, secrets: secrets}
}

// send makes the call once and returns the answer of a call that succeeded; every other end is a *token.Error.
func (s *service) send(ctx context.Context, c *call) (answer, error) {
	if err := endedFault(ctx, c.operation); err != nil {
		return answer{}, err
	}
	bounded, cancel := context.WithTimeout(ctx, s.options.CallTimeout)
	defer cancel()
	used, err := s.keys(ctx, bounded, c)
	if err != nil {
		return answer{}, err
	}
	traced, sent := s.traceSending(bounded)
	request, err := s.sign(traced, c, used)
	if err != nil {
		return answer{}, err
	}
	response, err := s.transport.RoundTrip(request)
	if err != nil {
		return answer{}, c.transportFault(ctx, bounded, err, sent.Load() != nil)
	}
	defer response.Body.Close()
	s.tellDate(response.Header, sent.Load())
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	// A peer that sees us hang up can still end its answer properly: a whole body after the end of the call may be half
	// an answer.
	if err != nil || bounded.Err() != nil {
		return answer{}, c.transportFault(ctx, bounded, err, true)
	}
	read, err := readAnswer(c, response, body)
	s.learn(used, err)
	return read, err
}

// traceSending notes when the call got its connection, which is right before it is sent. Nil tells a call that never had
// one (nothing was sent, so it took no effect) from one that lost it: the errors of the transport do not.
func (s *service) traceSending(ctx context.Context) (context.Context, *atomic.Pointer[time.Time]) {
	sent := new(atomic.Pointer[time.Time])
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(string) { sent.Store(nil) },
		GotConn: func(httptrace.GotConnInfo) { sent.Store(new(s.options.Now())) },
	}), sent
}

// tellDate passes on the time that the service put on an answer. A header that is missing or unreadable says nothing.
func (s *service) tellDate(header http.Header, sent *time.Time) {
	if s.connection.OnDate == nil || sent == nil {
		return
	}
	if served, err := http.ParseTime(header.Get("Date")); err == nil {
		s.connection.OnDate(served, *sent, s.options.Now())
	}
}
