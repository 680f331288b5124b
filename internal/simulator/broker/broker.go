// Package broker is an MQTT 3.1.1 and 5.0 broker that admits clients by token, holds every publish and subscribe against
// the tokens of the session, and ends the session when a token ends.
package broker

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
	"k8s.io/utils/clock"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/simulator/state"
)

// Kind is a way to reach the broker.
type Kind string

// The four ways.
const (
	TCP          Kind = "tcp"
	TLS          Kind = "tls"
	WebSocket    Kind = "ws"
	WebSocketTLS Kind = "wss"
)

// Kinds lists all ways to reach the broker.
func Kinds() []Kind { return []Kind{TCP, TLS, WebSocket, WebSocketTLS} }

const (
	// sweepInterval bounds how long an expired token stays in use.
	sweepInterval = 250 * time.Millisecond
	// maxPacketSize leaves room for the service's 64 KiB of payload and its headers.
	maxPacketSize = 66 << 10
)

// Options describes a broker.
type Options struct {
	Issuer *state.State
	// Clock paces the search for tokens that have ended; the issuer says what time it is.
	Clock clock.WithTicker
	// TLS serves the TLS ways.
	TLS *tls.Config
	// Addresses are the addresses to listen on; port 0 means any free port. A way without an address is not offered.
	Addresses map[Kind]string
}

// Broker is a running broker.
type Broker struct {
	issuer    *state.State
	server    *mqtt.Server
	addresses map[Kind]string
	wake      chan struct{}
	done      chan struct{}
	swept     sync.WaitGroup
	connects  atomic.Int64

	mu       sync.Mutex
	sessions map[net.Conn]*session
	latest   map[string]*session // by client id
}

// Start opens the ports and serves them until Close.
func Start(ctx context.Context, options Options) (*Broker, error) {
	b := &Broker{
		issuer: options.Issuer, server: mqtt.New(serverOptions()), addresses: map[Kind]string{},
		wake: make(chan struct{}, 1), done: make(chan struct{}), sessions: map[net.Conn]*session{}, latest: map[string]*session{},
	}
	if err := b.server.AddHook(&hook{broker: b}, nil); err != nil {
		return nil, fmt.Errorf("adding the hook: %w", err)
	}
	if err := b.listen(ctx, options); err != nil {
		return nil, errors.Join(err, b.server.Close())
	}
	if err := b.server.Serve(); err != nil {
		return nil, errors.Join(err, b.server.Close())
	}
	b.issuer.OnChange(b.nudge)
	b.swept.Go(func() { b.watch(options.Clock) })
	return b, nil
}

func serverOptions() *mqtt.Options {
	capabilities := mqtt.NewDefaultServerCapabilities()
	capabilities.MinimumProtocolVersion = 4
	capabilities.MaximumPacketSize = maxPacketSize
	capabilities.TopicAliasMaximum = 0 // an alias would hide the topic from the check
	capabilities.RetainAvailable = 0
	capabilities.SharedSubAvailable = 0
	return &mqtt.Options{
		Capabilities: capabilities,
		// The server logs whole packets, passwords and uploaded tokens among them.
		Logger: slog.New(slog.DiscardHandler),
	}
}

func (b *Broker) listen(ctx context.Context, options Options) error {
	for _, kind := range Kinds() {
		address, wanted := options.Addresses[kind]
		if !wanted {
			continue
		}
		bound, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
		if err != nil {
			return fmt.Errorf("listening for %s: %w", kind, err)
		}
		if kind == TLS || kind == WebSocketTLS {
			bound = tls.NewListener(bound, options.TLS)
		}
		b.addresses[kind] = bound.Addr().String()
		if err := b.server.AddListener(newListener(kind, bound, b.forget)); err != nil {
			return errors.Join(fmt.Errorf("listening for %s: %w", kind, err), bound.Close())
		}
	}
	return nil
}

// Address returns the host and port of a way to reach the broker; empty if it is not offered.
func (b *Broker) Address(kind Kind) string { return b.addresses[kind] }

// Clients returns the ids of the clients that are connected, sorted.
func (b *Broker) Clients() []string {
	var ids []string
	for _, s := range b.all() {
		if s.live() {
			ids = append(ids, s.client.ID)
		}
	}
	slices.Sort(ids)
	return ids
}

// Connects counts the CONNECTs that came in, whatever became of them.
func (b *Broker) Connects() int { return int(b.connects.Load()) }

// Close ends all connections and frees the ports.
func (b *Broker) Close() error {
	close(b.done)
	b.swept.Wait()
	return b.server.Close()
}

// nudge asks for a sweep without waiting for it, so that no client can hold up the caller.
func (b *Broker) nudge() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

func (b *Broker) watch(pace clock.WithTicker) {
	ticker := pace.NewTicker(sweepInterval)
	defer ticker.Stop()
	for {
		select {
		case <-b.done:
			return
		case <-b.wake:
		case <-ticker.C():
		}
		b.sweep()
	}
}

// sweep ends the sessions whose tokens have ended and announces the end of others.
func (b *Broker) sweep() {
	switches := b.issuer.Switches()
	now := b.issuer.Now()
	for _, s := range b.all() {
		if !s.live() {
			continue
		}
		if notice := s.invalid(switches.CutOnNextUse); notice != nil {
			b.cut(s, *notice)
		} else if !switches.NoExpireNotice {
			s.warn(now)
		}
	}
}

// cut tells a client what is wrong and ends its connection.
func (b *Broker) cut(s *session, notice invalidNotice) {
	if !s.end() {
		return
	}
	s.send(topicInvalid, notice)
	b.disconnect(s.client, packets.ErrNotAuthorized)
}

// disconnect closes a client's connection, with a DISCONNECT where the protocol has one from the server's side.
func (b *Broker) disconnect(client *mqtt.Client, reason packets.Code) {
	if client.Properties.ProtocolVersion == 5 {
		_ = b.server.DisconnectClient(client, reason) //nolint:errcheck // It returns the reason, or that the client is gone.
		return
	}
	client.Stop(reason)
}

// admit opens a session for a client, or returns the code of the refusal.
func (b *Broker) admit(client *mqtt.Client, connect packets.ConnectParams) packets.Code {
	malformed, unauthorised := refusals(client.Properties.ProtocolVersion)
	if err := checkClientID(connect.ClientIdentifier); err != nil {
		return packets.ErrClientIdentifierNotValid
	}
	who, err := parseUsername(string(connect.Username))
	if err != nil {
		return malformed
	}
	offers, err := parsePassword(string(connect.Password))
	if err != nil {
		return malformed
	}
	s := newSession(client, who, b.issuer)
	for _, offer := range offers {
		if s.accept(offer) != faultNone {
			return unauthorised
		}
	}
	b.takeOver(s)
	return packets.CodeSuccess
}

// takeOver makes the session the only one of its client id. It waits until the server is through with the one before:
// what the server does last, it does by client id, and would take the new session's subscriptions away.
func (b *Broker) takeOver(s *session) {
	b.mu.Lock()
	before := b.latest[s.client.ID]
	b.sessions[s.client.Net.Conn], b.latest[s.client.ID] = s, s
	b.mu.Unlock()
	if before == nil {
		return
	}
	b.disconnect(before.client, packets.ErrSessionTakenOver)
	<-before.gone
}

// refusals picks the codes that the server turns into 0x86 and 0x87 for MQTT 5, and into 4 and 5 for MQTT 3.1.1; its
// table of translations has no entry for ErrNotAuthorized, and sends it as it is.
func refusals(version byte) (malformed, unauthorised packets.Code) {
	if version == 5 {
		return packets.ErrBadUsernameOrPassword, packets.ErrNotAuthorized
	}
	return packets.ErrMalformedUsername, packets.ErrBadUsernameOrPassword
}

func (b *Broker) session(client *mqtt.Client) *session {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.sessions[client.Net.Conn]
}

// forget drops the session of a connection that the server is through with.
func (b *Broker) forget(conn net.Conn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.sessions[conn]
	if s == nil {
		return
	}
	delete(b.sessions, conn)
	if b.latest[s.client.ID] == s {
		delete(b.latest, s.client.ID)
	}
	close(s.gone)
}

func (b *Broker) all() []*session {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Collect(maps.Values(b.sessions))
}
