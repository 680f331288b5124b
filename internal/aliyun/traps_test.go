package aliyun_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/opentracing/opentracing-go"
	"github.com/opentracing/opentracing-go/mocktracer"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/aliyun"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
)

func TestCallsAreNeverPlainHTTP(t *testing.T) {
	p := newPeer(t, working)
	p.Start()
	for _, err := range callEach(t, open(t, connectionTo(p.address()), aliyun.Options{})) {
		wantFault(t, err, token.KindInstance, "Unreachable")
	}
	if n := len(p.seen()); n != 0 {
		t.Errorf("%d calls went out in plain text", n)
	}
}

func TestOldTLSIsRefused(t *testing.T) {
	p := newPeer(t, working)
	p.TLS = &tls.Config{MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}
	p.StartTLS()
	for _, err := range callEach(t, open(t, p.connection(), aliyun.Options{})) {
		wantFault(t, err, token.KindInstance, "Unreachable")
	}
}

func TestACertificateThatNobodyVouchesForIsRefused(t *testing.T) {
	p, other := startPeer(t, working), startPeer(t, working)
	connection := p.connection()
	connection.CABundle = nil
	for _, err := range callEach(t, open(t, connection, aliyun.Options{})) {
		wantFault(t, err, token.KindInstance, "UntrustedCertificate")
	}
	_, port, err := net.SplitHostPort(other.address())
	if err != nil {
		t.Fatal(err)
	}
	connection = other.connection()
	connection.Endpoint = net.JoinHostPort("localhost", port)
	for _, err := range callEach(t, open(t, connection, aliyun.Options{})) {
		wantFault(t, err, token.KindInstance, "UntrustedCertificate")
	}
	if len(p.seen())+len(other.seen()) != 0 {
		t.Error("a call reached an endpoint that is not trusted")
	}
}

func TestAnEndpointThatRefusesConnectionsIsUnreachable(t *testing.T) {
	p := startPeer(t, working)
	connection := p.connection()
	p.Close()
	_, err := open(t, connection, aliyun.Options{}).Apply(t.Context(), scope(), expiry())
	wantFault(t, err, token.KindInstance, "Unreachable")
	if !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("the cause is lost: %v", err)
	}
}

func TestTheCallersContextEndsACallUnderWay(t *testing.T) {
	arrived := make(chan struct{}, 1)
	p := startPeer(t, func(w http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		waiting(w, r)
	})
	s := open(t, p.connection(), aliyun.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-arrived
		cancel()
	}()
	_, err := s.Apply(ctx, scope(), expiry())
	wantFault(t, err, token.KindUnavailable, "Canceled")
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v does not wrap context.Canceled", err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = s.Query(ctx, token.NewValue("x"))
	wantFault(t, err, token.KindUnavailable, "Timeout")
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v does not wrap context.DeadlineExceeded", err)
	}
}

func TestACallWithoutDeadlineEndsByItself(t *testing.T) {
	slowBody := func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		waiting(w, r)
	}
	for sentence, answer := range map[string]http.HandlerFunc{"no answer": waiting, "half an answer": slowBody} {
		t.Run(sentence, func(t *testing.T) {
			s := open(t, startPeer(t, answer).connection(), aliyun.Options{CallTimeout: 50 * time.Millisecond})
			_, err := s.Query(t.Context(), token.NewValue("x"))
			wantFault(t, err, token.KindUnavailable, "Timeout")
			if errors.Is(err, context.DeadlineExceeded) {
				t.Error("the caller would take the end of the call for the end of its own context")
			}
		})
	}
}

func TestOneServiceServesManyCallersAtOnce(t *testing.T) {
	p := startPeer(t, working)
	dialer := aliyun.NewVendor(aliyun.Options{}).Dial
	shared, err := dialer(p.connection())
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for range 16 {
		group.Go(func() {
			own, err := dialer(p.connection())
			if err != nil {
				t.Error(err)
				return
			}
			for _, s := range []token.Service{shared, own} {
				for operation, err := range callEach(t, s) {
					if err != nil {
						t.Errorf("%s: %v", operation, err)
					}
				}
			}
		})
	}
	group.Wait()
}

func TestNothingIsTriedTwice(t *testing.T) {
	for sentence, tc := range map[string]struct {
		answer http.HandlerFunc
		code   string
	}{
		"an error of the service":          {answering(http.StatusInternalServerError, `{"RequestId":"R","Code":"InternalError"}`), "InternalError"},
		"a connection reset in mid-answer": {breaking(partOfAnAnswer), "ConnectionLost"},
		"a connection reset at once":       {breaking(func(*http.Request) string { return "" }), "ConnectionLost"},
		"an answer that is not HTTP":       {breaking(notHTTP), "ConnectionLost"},
	} {
		t.Run(sentence, func(t *testing.T) {
			warm := true
			p := startPeer(t, func(w http.ResponseWriter, r *http.Request) {
				if warm {
					working(w, r)
					return
				}
				tc.answer(w, r)
			})
			s := open(t, p.connection(), aliyun.Options{})
			if _, err := s.Query(t.Context(), token.NewValue("x")); err != nil {
				t.Fatal(err)
			}
			warm = false // the next call has a kept connection, which a transport is most tempted to try again
			_, err := s.Apply(t.Context(), scope(), expiry())
			wantFault(t, err, token.KindUnavailable, tc.code)
			if n := len(p.seen()); n != 2 {
				t.Errorf("%d calls reached the service, want 2", n)
			}
		})
	}
}

func TestConnectionsAreReusedAlsoAfterErrors(t *testing.T) {
	p := startPeer(t, answering(http.StatusServiceUnavailable, `{"RequestId":"R","Code":"ServiceUnavailable"}`))
	dialer := aliyun.NewVendor(aliyun.Options{}).Dial
	for range 5 {
		s, err := dialer(p.connection())
		if err != nil {
			t.Fatal(err)
		}
		for _, err := range callEach(t, s) {
			wantFault(t, err, token.KindUnavailable, "ServiceUnavailable")
		}
	}
	if n := p.connections(); n != 1 {
		t.Errorf("15 calls opened %d connections", n)
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	elsewhere := startPeer(t, working)
	for _, status := range []int{http.StatusMovedPermanently, http.StatusFound, http.StatusTemporaryRedirect, http.StatusPermanentRedirect} {
		p := startPeer(t, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL+r.URL.String(), status)
		})
		connection := p.connection()
		connection.CABundle = append(p.bundle(), elsewhere.bundle()...)
		for _, err := range callEach(t, open(t, connection, aliyun.Options{})) {
			wantFault(t, err, token.KindInstance, "Redirected")
		}
	}
	if n := len(elsewhere.seen()); n != 0 {
		t.Errorf("%d signed calls went elsewhere", n)
	}
}

func TestOddErrorBodiesAreErrorsNotPanics(t *testing.T) {
	for _, body := range []string{
		`{"Code":400}`, `{"Code":null}`, `{"Code":["X"]}`, `{"Code":{"a":1}}`, `{"RequestId":7,"Code":true}`, `{"Message":[]}`,
		`null`, `[]`, `"text"`, `7`, `{`, "\xff\xfe", `{"Code":"X"}{"Code":"Y"}`,
	} {
		p := startPeer(t, answering(http.StatusBadRequest, body))
		for _, err := range callEach(t, open(t, p.connection(), aliyun.Options{})) {
			wantFault(t, err, token.KindUnavailable, "UnreadableAnswer")
		}
	}
}

func TestGoodAnswersThatSayNothingAreErrors(t *testing.T) {
	for sentence, body := range map[string]string{
		"nothing":                              "",
		"a page":                               "<html>",
		"null":                                 "null",
		"no request id":                        `{"Token":"t","TokenStatus":true}`,
		"a request id that is null":            `{"RequestId":null,"Token":"t","TokenStatus":true}`,
		"a request id that is a number":        `{"RequestId":1,"Token":"t","TokenStatus":true}`,
		"broken UTF-8":                         "{\"RequestId\":\"R\",\"Token\":\"t\xff\",\"TokenStatus\":true}",
		"two objects":                          `{"RequestId":"R","Token":"t","TokenStatus":true}{}`,
		"more than any answer":                 `{"RequestId":"R","Token":"t","TokenStatus":true,"x":"` + strings.Repeat("x", 1<<20) + `"}`,
		"members with other capitals":          `{"requestid":"R","token":"t","tokenstatus":true}`,
		"neither token nor status":             `{"RequestId":"R"}`,
		"an empty token, a status of null":     `{"RequestId":"R","Token":"","TokenStatus":null}`,
		"a blank token, a status that is \"\"": `{"RequestId":"R","Token":" \n","TokenStatus":""}`,
		"a token that is null, a status of 1":  `{"RequestId":"R","Token":null,"TokenStatus":1}`,
		"a token that is a list":               `{"RequestId":"R","Token":["t"],"TokenStatus":["true"]}`,
	} {
		t.Run(sentence, func(t *testing.T) {
			s := open(t, startPeer(t, answering(http.StatusOK, body)).connection(), aliyun.Options{})
			value, err := s.Apply(t.Context(), scope(), expiry())
			wantFault(t, err, token.KindUnavailable, "UnreadableAnswer")
			if !value.IsZero() {
				t.Error("a token came along with the error")
			}
			valid, err := s.Query(t.Context(), token.NewValue("x"))
			wantFault(t, err, token.KindUnavailable, "UnreadableAnswer")
			if valid {
				t.Error("a status came along with the error")
			}
		})
	}
}

const (
	childAddress = "ALIYUN_TEST_ADDRESS"
	childBundle  = "ALIYUN_TEST_BUNDLE"
)

// TestCallInAChildProcess makes the calls for the tests that need an environment of their own: the SDK reads DEBUG
// and the transport reads the proxy once in a process.
func TestCallInAChildProcess(t *testing.T) {
	address := os.Getenv(childAddress)
	if address == "" {
		t.Skip("runs in a child process only")
	}
	tracer := mocktracer.New()
	opentracing.SetGlobalTracer(tracer)
	connection := connectionTo(address)
	connection.CABundle = []byte(os.Getenv(childBundle))
	for operation, err := range callEach(t, open(t, connection, aliyun.Options{})) {
		if err != nil {
			t.Errorf("%s: %v", operation, err)
		}
	}
	if spans := tracer.FinishedSpans(); len(spans) != 0 {
		t.Errorf("%d spans were traced", len(spans))
	}
}

// runChild calls address in a child process and returns what it printed.
func runChild(t *testing.T, address string, bundle []byte, environment ...string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.CommandContext(t.Context(), self, "-test.run=^TestCallInAChildProcess$", "-test.v")
	child.Env = append([]string{childAddress + "=" + address, childBundle + "=" + string(bundle)}, environment...)
	printed, err := child.CombinedOutput()
	if err != nil {
		t.Errorf("%v:\n%s", err, printed)
	}
	return string(printed)
}

func TestNeitherDebugNorTracingPrintsSecrets(t *testing.T) {
	p := startPeer(t, working)
	printed := runChild(t, p.address(), p.bundle(), "DEBUG=sdk")
	if len(p.seen()) != 3 {
		t.Errorf("the child made %d calls", len(p.seen()))
	}
	wantNoCanary(t, "the output", printed)
}

func TestTheProxyOfTheEnvironmentIsUsed(t *testing.T) {
	p := startPeer(t, working)
	var mu sync.Mutex
	var asked []string
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		asked = append(asked, r.Method+" "+r.Host)
		mu.Unlock()
		tunnel(w, p.address())
	}))
	defer proxy.Close()
	runChild(t, "example.com", p.bundle(), "HTTPS_PROXY="+proxy.URL) // the name in the test certificate
	mu.Lock()
	defer mu.Unlock()
	if got := fmt.Sprint(asked); got != "[CONNECT example.com:443]" || len(p.seen()) != 3 {
		t.Errorf("the proxy was asked for %s, the service saw %d calls", got, len(p.seen()))
	}
}

// tunnel joins the peer of a CONNECT request with an address.
func tunnel(w http.ResponseWriter, address string) {
	target, err := net.Dial("tcp", address)
	if err != nil {
		panic(err)
	}
	w.WriteHeader(http.StatusOK)
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	go func() {
		_, _ = io.Copy(target, buffered)
		_ = target.Close()
	}()
	go func() {
		_, _ = io.Copy(conn, target)
		_ = conn.Close()
	}()
}
