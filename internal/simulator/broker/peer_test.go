package broker_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	paho3 "github.com/eclipse/paho.mqtt.golang"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/simulator/broker"
)

// patience bounds the wait for a peer on the network; nothing waits that long unless it fails.
const patience = 10 * time.Second

// message is a message that a client received.
type message struct{ Topic, Payload string }

// peer is a client of either protocol version.
type peer struct {
	publish   func(name, payload string, qos byte) error
	subscribe func(filter string) error
	received  chan message
	gone      chan struct{}
}

// dialer says how a client connects.
type dialer struct {
	kind                         broker.Kind
	address                      string
	tls                          *tls.Config
	clientID, username, password string
	keepSession                  bool
}

// refused is a CONNACK that says no.
type refused struct{ code byte }

func (r refused) Error() string { return "refused" }

func (d dialer) versions() map[string]func(*testing.T) (*peer, error) {
	return map[string]func(*testing.T) (*peer, error){"MQTT 3.1.1": d.connect3, "MQTT 5": d.connect5}
}

func (d dialer) connect3(t *testing.T) (*peer, error) {
	t.Helper()
	p := &peer{received: make(chan message, 16), gone: make(chan struct{})}
	scheme := map[broker.Kind]string{broker.TCP: "tcp", broker.TLS: "ssl", broker.WebSocket: "ws", broker.WebSocketTLS: "wss"}[d.kind]
	options := paho3.NewClientOptions().AddBroker(scheme + "://" + d.address).SetTLSConfig(d.tls).SetProtocolVersion(4).
		SetClientID(d.clientID).SetUsername(d.username).SetPassword(d.password).SetCleanSession(!d.keepSession).
		SetAutoReconnect(false).SetConnectTimeout(patience).
		SetDefaultPublishHandler(func(_ paho3.Client, m paho3.Message) {
			p.received <- message{Topic: m.Topic(), Payload: string(m.Payload())}
		}).
		SetConnectionLostHandler(func(paho3.Client, error) { close(p.gone) })
	client := paho3.NewClient(options)
	connecting := client.Connect().(*paho3.ConnectToken)
	if err := finish(connecting); err != nil {
		if code := connecting.ReturnCode(); code != 0 && code < 0xfe {
			return nil, refused{code: code}
		}
		return nil, err
	}
	t.Cleanup(func() { client.Disconnect(0) })
	p.publish = func(name, payload string, qos byte) error { return finish(client.Publish(name, qos, false, payload)) }
	p.subscribe = func(filter string) error { return finish(client.Subscribe(filter, 1, nil)) }
	return p, nil
}

func finish(t paho3.Token) error {
	if !t.WaitTimeout(patience) {
		return errors.New("no acknowledgement")
	}
	return t.Error()
}

func (d dialer) connect5(t *testing.T) (*peer, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	conn, err := d.dial(ctx)
	if err != nil {
		return nil, err
	}
	p := &peer{received: make(chan message, 16), gone: make(chan struct{})}
	lost := make(chan struct{}, 8)
	client := paho.NewClient(paho.ClientConfig{
		Conn: packets.NewThreadSafeConn(conn), // acknowledgements and messages are written at the same time
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(r paho.PublishReceived) (bool, error) {
			p.received <- message{Topic: r.Packet.Topic, Payload: string(r.Packet.Payload)}
			return true, nil
		}},
		OnClientError:      func(error) { lost <- struct{}{} },
		OnServerDisconnect: func(*paho.Disconnect) { lost <- struct{}{} },
	})
	connack, err := client.Connect(ctx, &paho.Connect{
		ClientID: d.clientID, Username: d.username, UsernameFlag: true, Password: []byte(d.password),
		PasswordFlag: d.password != "", CleanStart: !d.keepSession, KeepAlive: 30,
	})
	if err != nil {
		if connack != nil {
			return nil, refused{code: connack.ReasonCode}
		}
		return nil, err
	}
	go func() { <-lost; close(p.gone) }()
	t.Cleanup(func() { _ = client.Disconnect(&paho.Disconnect{}); lost <- struct{}{} })
	p.publish = func(name, payload string, qos byte) error {
		_, err := client.Publish(ctx, &paho.Publish{Topic: name, QoS: qos, Payload: []byte(payload)})
		return err
	}
	p.subscribe = func(filter string) error {
		_, err := client.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: filter, QoS: 1}}})
		return err
	}
	return p, nil
}

func (d dialer) dial(ctx context.Context) (net.Conn, error) {
	switch d.kind {
	case broker.TLS:
		return (&tls.Dialer{Config: d.tls}).DialContext(ctx, "tcp", d.address)
	case broker.WebSocket:
		return paho3.NewWebsocket("ws://"+d.address+"/mqtt", nil, patience, nil, nil)
	case broker.WebSocketTLS:
		return paho3.NewWebsocket("wss://"+d.address+"/mqtt", d.tls, patience, nil, nil)
	default:
		return (&net.Dialer{}).DialContext(ctx, "tcp", d.address)
	}
}

// next returns the next message, or fails.
func (p *peer) next(t *testing.T) message {
	t.Helper()
	select {
	case m := <-p.received:
		return m
	case <-time.After(patience):
		t.Fatal("no message")
		return message{}
	}
}

// awaitGone waits until the broker has cut the connection.
func (p *peer) awaitGone(t *testing.T) {
	t.Helper()
	select {
	case <-p.gone:
	case <-time.After(patience):
		t.Fatal("still connected")
	}
}

// alive fails if the session does not answer any more.
func (p *peer) alive(t *testing.T, name string) {
	t.Helper()
	if err := p.publish(name, "still here", 1); err != nil {
		t.Fatalf("not connected any more: %v", err)
	}
}
