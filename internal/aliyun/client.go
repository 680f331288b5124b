// Package aliyun is the token service of ApsaraMQ for MQTT behind the operator's own token.Service.
//
// The vendor's SDK builds and signs the requests; it does not send them. Its client knows no context, is not safe for
// concurrent use, follows redirects with the signed URL, prints URL and answer (both hold tokens) when the environment
// says DEBUG=sdk or a tracer is registered, puts the URL into each error, and panics on error bodies that it does not
// expect. So this package sends the signed request by a transport of its own and reads the answer itself.
package aliyun

import (
	"context"
	"net/http"
	"sync"
	"time"

	"k8s.io/utils/clock"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
)

// The operations, as errors and metrics name them.
const (
	opDial   = "Dial"
	opApply  = "Apply"
	opQuery  = "Query"
	opRevoke = "Revoke"

	opIdentify = "Identify"
)

// outcomeOK is the outcome of a call that did not fail; the others are the names of the kinds of token.Error.
const outcomeOK = "ok"

// defaultCallTimeout bounds a call whose context has no earlier end. The service answers in tens of milliseconds; a
// call that takes this long holds a worker for nothing.
const defaultCallTimeout = 15 * time.Second

// CallObserver learns of every finished call to the service.
type CallObserver interface {
	// ObserveCall reports one call: Apply, Query or Revoke, then ok or the kind of its error, and how long it took.
	ObserveCall(operation, outcome string, took time.Duration)
}

// Options sets up a dialer. The zero value works and reports to nobody.
type Options struct {
	// UserAgent is appended to the SDK's own, so that the vendor's support can tell our calls from others.
	UserAgent string
	// CallTimeout bounds each call; zero means 15 seconds.
	CallTimeout time.Duration
	// Calls learns of every call; nil means nobody does.
	Calls CallObserver
	// Providers is what NewProviderTransport returned and http.DefaultTransport is set to. Nil: no identity is served but a
	// connection's own key.
	Providers *http.Transport
	// Now is the clock that calls and the service's own clock are measured with; nil means the real one.
	Now func() time.Time
}

// Vendor is the way to the vendor's services. What it opens shares connections, and keys where the identity is the same.
type Vendor struct {
	options Options
	pools   *transportPools

	mu      sync.Mutex
	sources map[speaker]*source
}

// NewVendor returns a way to the vendor's services. It makes no call itself.
//
// The standard library's transport writes bytes that a peer sends out of turn to the standard logger, and an endpoint
// could send a token: the command that uses it should discard that logger's output (log.SetOutput).
func NewVendor(options Options) *Vendor {
	if options.CallTimeout == 0 {
		options.CallTimeout = defaultCallTimeout
	}
	if options.Now == nil {
		options.Now = clock.RealClock{}.Now
	}
	return &Vendor{options: options, pools: newTransportPools(), sources: map[speaker]*source{}}
}

// Dial implements token.Dialer.
func (v *Vendor) Dial(connection token.Connection) (token.Service, error) {
	s, fault := v.open(connection)
	if fault != nil {
		return nil, fault
	}
	if s.host, fault = endpointHost(connection); fault != nil {
		return nil, fault
	}
	if s.transport, fault = v.pools.forBundle(connection.CABundle); fault != nil {
		return nil, fault
	}
	return s, nil
}

// open returns a service that does not know its endpoint yet.
func (v *Vendor) open(connection token.Connection) (*service, *token.Error) {
	if fault := connectionFault(connection); fault != nil {
		return nil, fault
	}
	spoken := speakerOf(connection)
	if fault := spoken.problem(v.options.Providers); fault != nil {
		return nil, fault
	}
	return &service{connection: connection, source: v.source(spoken), options: v.options}, nil
}

// source returns where a speaker's keys come from; nil if they are its own.
func (v *Vendor) source(spoken speaker) *source {
	if spoken.isStatic() {
		return nil
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if held, known := v.sources[spoken]; known {
		return held
	}
	if len(v.sources) >= maxPools {
		clear(v.sources) // services hold on to their own
	}
	v.sources[spoken] = newSource(spoken.fetch, v.options.Now)
	return v.sources[spoken]
}

// connectionFault tells a description that can never work. It returns *token.Error, not error: see dial.
func connectionFault(c token.Connection) *token.Error {
	switch {
	case c.InstanceID == "":
		return dialFault(codeIncomplete, "the id of the MQTT instance is missing")
	case c.Identity.Type == token.IdentityAccessKey && (c.AccessKeyID == "" || c.AccessKeySecret.IsZero()):
		return dialFault(codeIncomplete, "the AccessKey is missing; the credential needs an AccessKey id and its secret")
	}
	return nil
}

// service is safe for concurrent use: its fields do not change, the transport is safe by contract, and everything of
// the SDK's is made anew for each call.
type service struct {
	connection token.Connection
	source     *source // of the keys; nil if they are the connection's
	host       string
	transport  http.RoundTripper
	options    Options
}

var _ token.Service = (*service)(nil)

// Apply implements token.Service.
func (s *service) Apply(ctx context.Context, scope token.Scope, expires time.Time) (token.Value, error) {
	request, err := applyRequest(s.connection.InstanceID, scope, expires)
	if err != nil {
		return token.Value{}, err
	}
	c := s.newCall(opApply, request)
	return observed(s, opApply, func() (token.Value, error) {
		answer, err := s.send(ctx, c)
		if err != nil {
			return token.Value{}, err
		}
		return answer.token(c)
	})
}

// Query implements token.Service.
func (s *service) Query(ctx context.Context, value token.Value) (bool, error) {
	if value.IsZero() {
		return false, endedFault(ctx, opQuery) // no token at all: never issued, and nothing to send
	}
	c := s.newCall(opQuery, queryRequest(s.connection.InstanceID, value), value)
	return observed(s, opQuery, func() (bool, error) {
		answer, err := s.send(ctx, c)
		if err != nil {
			return false, err
		}
		return answer.tokenStatus(c)
	})
}

// Revoke implements token.Service. Whether the service refuses to revoke a token that has ended is not documented, so
// a refusal of the request as such is checked: a token that is not valid needs no revocation.
func (s *service) Revoke(ctx context.Context, value token.Value) error {
	if value.IsZero() {
		return endedFault(ctx, opRevoke)
	}
	err := s.revoke(ctx, value)
	if err == nil || token.AsError(err).Kind != token.KindInvalid {
		return err
	}
	if valid, queryErr := s.Query(ctx, value); queryErr != nil || valid {
		return err
	}
	return nil
}

func (s *service) revoke(ctx context.Context, value token.Value) error {
	c := s.newCall(opRevoke, revokeRequest(s.connection.InstanceID, value), value)
	_, err := observed(s, opRevoke, func() (answer, error) { return s.send(ctx, c) })
	return err
}

// observed runs a call and reports it.
func observed[T any](s *service, operation string, run func() (T, error)) (T, error) {
	if s.options.Calls == nil {
		return run()
	}
	started := s.options.Now()
	result, err := run()
	outcome := outcomeOK
	if err != nil {
		outcome = token.AsError(err).Kind.String()
	}
	s.options.Calls.ObserveCall(operation, outcome, s.options.Now().Sub(started))
	return result, err
}
