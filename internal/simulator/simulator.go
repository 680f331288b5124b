// Package simulator is a stand-in for the token service and its MQTT broker: the OpenAPI over TLS, the broker on TCP,
// TLS and WebSocket, and an admin endpoint, in one process and on one clock.
//
// # The admin endpoint
//
// Plain HTTP and JSON, without any authentication: keep it on loopback.
//
//	GET  /healthz   200 once everything listens
//	GET  /ca.crt    the CA certificate (PEM) that the TLS endpoints are signed by
//	GET  /tokens    every token issued: id, account, key, instance, type, topics, times, validity; never the text
//	GET  /calls     calls of each operation: total, failed, failures by code
//	GET  /peaks     the most calls of each operation, and of all together, within one second
//	GET  /clients   ids of the connected MQTT clients
//	GET  /faults    the faults that are set
//	PUT  /faults    replaces them: {"latency":"200ms","clockSkew":"-20m","calls":[
//	                  {"kind":"Error","operation":"ApplyToken","rate":0.5,"status":500,"code":"SystemOverFlow"},
//	                  {"kind":"DropReply","times":1}]}; {} clears them.
//	                Kinds: Error, Outage, Garbage, OddError (no effect on the service); Reset, DropReply (the call took effect)
//	GET  /clock     {"now":"2031-03-05T07:11:13Z"}
//	POST /clock     {"advance":"10m"} moves the simulator's clock forward: tokens expire. Whether a call's signature is
//	                fresh is judged by the real clock and clockSkew alone, so that callers need not follow
//	POST /revoke    {"id":"<id of GET /tokens>"} revokes behind the operator's back
package simulator

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"k8s.io/utils/clock"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/simulator/broker"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/simulator/state"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/simulator/wire"
)

const (
	anyLoopbackPort = "127.0.0.1:0"
	headerTimeout   = 10 * time.Second
)

// Options describes a simulator. The zero value has no account; everything listens on any free port of loopback.
type Options struct {
	// Clock is the simulator's clock; nil means the real one. Latency and the freshness of signatures go by the real one
	// in any case, because the callers' SDK does.
	Clock clock.WithTicker

	Accounts  []state.Account
	Instances []state.Instance
	Quotas    state.Quotas
	Switches  state.Switches
	Faults    wire.Faults

	// APIAddress and AdminAddress are where the OpenAPI and the admin endpoint listen.
	APIAddress, AdminAddress string
	// BrokerAddresses are where the broker listens, for each way that is to be changed.
	BrokerAddresses map[broker.Kind]string

	// Names are the host names and addresses in the server certificate; default localhost, 127.0.0.1 and ::1.
	Names []string
	// Certificate replaces the certificate that the simulator makes; CAPEM is then the CA to hand out.
	Certificate *tls.Certificate
	CAPEM       []byte
}

// Simulator is a running simulator.
type Simulator struct {
	issuer  *state.State
	openAPI *wire.Handler
	broker  *broker.Broker
	caPEM   []byte

	api, admin *webServer
	closing    sync.Once
	closeErr   error
}

// Start opens all ports and serves them until Close, or until the context ends.
func Start(ctx context.Context, options Options) (*Simulator, error) {
	options.setDefaults()
	issuer, err := state.New(state.Options{
		Clock: options.Clock, Accounts: options.Accounts, Instances: options.Instances,
		Quotas: options.Quotas, Switches: options.Switches,
	})
	if err != nil {
		return nil, err
	}
	s := &Simulator{issuer: issuer, openAPI: wire.NewHandler(issuer, clock.RealClock{})}
	if err := s.openAPI.SetFaults(options.Faults); err != nil {
		return nil, err
	}
	if err := s.serve(ctx, options); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	context.AfterFunc(ctx, func() { _ = s.Close() }) //nolint:errcheck // Close keeps the error for its next caller.
	return s, nil
}

func (o *Options) setDefaults() {
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	if o.APIAddress == "" {
		o.APIAddress = anyLoopbackPort
	}
	if o.AdminAddress == "" {
		o.AdminAddress = anyLoopbackPort
	}
	if len(o.Names) == 0 {
		o.Names = DefaultNames()
	}
	addresses := map[broker.Kind]string{}
	for _, kind := range broker.Kinds() {
		addresses[kind] = anyLoopbackPort
		if wanted := o.BrokerAddresses[kind]; wanted != "" {
			addresses[kind] = wanted
		}
	}
	o.BrokerAddresses = addresses
}

// DefaultNames are the names that the server certificate carries by default.
func DefaultNames() []string { return []string{"localhost", "127.0.0.1", "::1"} }

func (s *Simulator) serve(ctx context.Context, options Options) error {
	config, err := s.certify(options)
	if err != nil {
		return err
	}
	s.broker, err = broker.Start(ctx, broker.Options{
		Issuer: s.issuer, Clock: options.Clock, TLS: config, Addresses: options.BrokerAddresses,
	})
	if err != nil {
		return fmt.Errorf("starting the broker: %w", err)
	}
	if s.api, err = startWeb(ctx, options.APIAddress, config, s.openAPI); err != nil {
		return fmt.Errorf("starting the OpenAPI: %w", err)
	}
	if s.admin, err = startWeb(ctx, options.AdminAddress, nil, s.adminHandler()); err != nil {
		return fmt.Errorf("starting the admin endpoint: %w", err)
	}
	return nil
}

// certify returns the TLS configuration of the endpoints. The certificate is dated by the real clock, because clients
// judge it by theirs.
func (s *Simulator) certify(options Options) (*tls.Config, error) {
	certificate := options.Certificate
	s.caPEM = options.CAPEM
	if certificate == nil {
		made, err := newAuthority(clock.RealClock{}.Now(), options.Names)
		if err != nil {
			return nil, err
		}
		certificate, s.caPEM = &made.server, made.caPEM
	}
	return &tls.Config{Certificates: []tls.Certificate{*certificate}, MinVersion: tls.VersionTLS12}, nil
}

// APIAddress is the host and port of the OpenAPI, to be reached by TLS.
func (s *Simulator) APIAddress() string { return s.api.address }

// AdminAddress is the host and port of the admin endpoint, to be reached by plain HTTP.
func (s *Simulator) AdminAddress() string { return s.admin.address }

// BrokerAddress is the host and port of the broker, for a way to reach it.
func (s *Simulator) BrokerAddress(kind broker.Kind) string { return s.broker.Address(kind) }

// CAPEM is the CA certificate that clients must trust.
func (s *Simulator) CAPEM() []byte { return slices.Clone(s.caPEM) }

// State is the issuer, for tests that look at tokens or move the clock.
func (s *Simulator) State() *state.State { return s.issuer }

// Faults returns the faults that are set.
func (s *Simulator) Faults() wire.Faults { return s.openAPI.Faults() }

// SetFaults replaces the faults.
func (s *Simulator) SetFaults(faults wire.Faults) error { return s.openAPI.SetFaults(faults) }

// Calls counts the calls of the OpenAPI so far.
func (s *Simulator) Calls() map[state.Operation]wire.CallCount { return s.openAPI.Calls() }

// Peaks returns the most calls of the OpenAPI within one second, by operation and for wire.AllOperations.
func (s *Simulator) Peaks() map[state.Operation]int { return s.openAPI.Peaks() }

// Connects counts the CONNECTs that MQTT clients have sent, refused ones too.
func (s *Simulator) Connects() int { return s.broker.Connects() }

// Clients lists the ids of the connected MQTT clients.
func (s *Simulator) Clients() []string { return s.broker.Clients() }

// Close ends everything. It may be called again, to no effect.
func (s *Simulator) Close() error {
	s.closing.Do(func() {
		if s.broker != nil {
			s.closeErr = s.broker.Close()
		}
		s.closeErr = errors.Join(s.closeErr, s.api.close(), s.admin.close())
	})
	return s.closeErr
}

// webServer is an HTTP server on an open port.
type webServer struct {
	address string
	server  *http.Server
	served  sync.WaitGroup
}

func startWeb(ctx context.Context, address string, config *tls.Config, handler http.Handler) (*webServer, error) {
	bound, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	if config != nil {
		bound = tls.NewListener(bound, config) // HTTP/1.1 only: faults are about whole connections
	}
	w := &webServer{address: bound.Addr().String(), server: &http.Server{
		Handler: handler, ReadHeaderTimeout: headerTimeout,
		ErrorLog: log.New(io.Discard, "", 0), // the faults' panics, and clients that do not trust the CA
	}}
	w.served.Go(func() { _ = w.server.Serve(bound) }) //nolint:errcheck // It ends by close only.
	return w, nil
}

func (w *webServer) close() error {
	if w == nil {
		return nil
	}
	err := w.server.Close()
	w.served.Wait()
	return err
}
