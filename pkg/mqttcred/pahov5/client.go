// Package pahov5 keeps an MQTT 5 client (github.com/eclipse/paho.golang) connected with the tokens of a mounted Secret: it
// uploads new ones over the open connection, and connects anew where that does not do.
package pahov5

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"

	"github.com/mqtt-token-operator/mqtt-token-operator/pkg/mqttcred"
	"github.com/mqtt-token-operator/mqtt-token-operator/pkg/mqttcred/internal/turnstile"
)

const (
	// answerWithin is how long the broker may take to acknowledge a CONNECT or an upload.
	answerWithin = 10 * time.Second
	keepAlive    = 30 // seconds
	atLeastOnce  = 1
)

// Options says how a client behaves. All of it is optional.
type Options struct {
	// Name tells the clients of a group apart where the grant names no device: the pod's name, as a rule.
	Name string
	// Configure has the last word on each CONNECT: keep alive, session expiry, a will.
	Configure func(*paho.Connect)
	// OnConnect is called for each new connection, before anybody may publish: subscribe here. An error ends the connection.
	OnConnect func(context.Context, *paho.Client) error
	// OnMessage takes what is received; notices about tokens are not among it.
	OnMessage func(*paho.Publish)
	// OnEvent learns what happens, for a log; no secret is in it.
	OnEvent func(mqttcred.Event)
}

// ConnectPacketBuilder is for a connection manager of your own (autopaho), which reconnects by itself: it reads the files
// before each CONNECT, and makes none while the tokens are taken back. Such a client knows neither when not to try nor how to
// upload new tokens.
func ConnectPacketBuilder(source *mqttcred.Source, name string) func(*paho.Connect, *url.URL) (*paho.Connect, error) {
	return func(packet *paho.Connect, _ *url.URL) (*paho.Connect, error) {
		current, err := source.Current()
		if err != nil {
			return nil, err
		}
		return packet, fill(packet, current, name)
	}
}

func fill(packet *paho.Connect, used mqttcred.Credentials, name string) (err error) {
	packet.Username, packet.UsernameFlag = used.Username, true
	packet.Password, packet.PasswordFlag = []byte(used.Password), true
	packet.ClientID, err = used.ClientIDFor(name)
	return err
}

// Client keeps a connection with the tokens of a mounted Secret. It is safe for concurrent use.
type Client struct {
	source *mqttcred.Source
	o      Options
	gate   *turnstile.Turnstile
	live   *paho.Client // only whoever has entered the gate, or shut it, may use it
}

// New returns a client that connects once it runs.
func New(source *mqttcred.Source, o Options) *Client {
	if o.OnEvent == nil {
		o.OnEvent = func(mqttcred.Event) {}
	}
	return &Client{source: source, o: o, gate: turnstile.New()}
}

// String says what it is, and holds nothing of what it connects with.
func (c *Client) String() string { return fmt.Sprintf("MQTT 5 client of %s", c.source) }

// Format prints that for every verb: the library's own client, in a field, may be at work while it is printed.
func (c *Client) Format(state fmt.State, _ rune) { state.Write([]byte(c.String())) }

// Run connects, again and again, until the context ends, and returns its error.
func (c *Client) Run(ctx context.Context) error { return c.source.Keep(ctx, c.session, c.o.OnEvent) }

// Publish publishes a message once there is a connection and no token is being uploaded, and waits for the broker's
// acknowledgement. A message whose connection is lost meanwhile may have arrived or not; the caller decides whether to
// publish it again.
func (c *Client) Publish(ctx context.Context, message *paho.Publish) error {
	leave, err := c.gate.Enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	return publish(ctx, c.live, message)
}

// session is one connection, from CONNECT to its end.
func (c *Client) session(ctx context.Context, used mqttcred.Credentials) (mqttcred.Credentials, error) {
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	notices := mqttcred.NewNotices()
	client, err := c.connect(ctx, used, end, notices)
	if err != nil {
		return used, err
	}
	defer client.Disconnect(&paho.Disconnect{}) //nolint:errcheck // it may be gone already
	if c.o.OnConnect != nil {
		if err := c.o.OnConnect(ctx, client); err != nil {
			return used, notices.Explain(fmt.Errorf("after connecting: %w", err))
		}
	}
	c.o.OnEvent(mqttcred.Event{Kind: mqttcred.Connected, Credentials: used})
	c.live = client
	c.gate.Open()
	last, why := c.source.Refresh(ctx, used, c.upload)
	end(why)
	// Whoever publishes waits for the connection, which ends first; what it says of that is no news.
	_ = client.Disconnect(&paho.Disconnect{}) //nolint:errcheck // see above
	if err := c.gate.Shut(context.WithoutCancel(ctx)); err != nil {
		return last, err
	}
	return last, notices.Explain(why)
}

func (c *Client) connect(ctx context.Context, used mqttcred.Credentials, end context.CancelCauseFunc, notices mqttcred.Notices) (*paho.Client, error) {
	trust, err := used.TLS()
	if err != nil {
		return nil, err
	}
	packet := &paho.Connect{KeepAlive: keepAlive, CleanStart: true}
	if err := fill(packet, used, c.o.Name); err != nil {
		return nil, err
	}
	if c.o.Configure != nil {
		c.o.Configure(packet)
	}
	dialing, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	wire, err := (&tls.Dialer{Config: trust}).DialContext(dialing, "tcp", net.JoinHostPort(used.Host, used.Port))
	if err != nil {
		return nil, fmt.Errorf("connecting: %w", err)
	}
	client := paho.NewClient(paho.ClientConfig{
		Conn: packets.NewThreadSafeConn(wire), PacketTimeout: answerWithin,
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(r paho.PublishReceived) (bool, error) {
			c.receive(r.Packet, notices)
			return true, nil
		}},
		OnServerDisconnect: func(d *paho.Disconnect) { end(fmt.Errorf("the broker ended the connection: reason %#x", d.ReasonCode)) },
		OnClientError:      func(err error) { end(fmt.Errorf("the connection is lost: %w", err)) },
	})
	answer, err := client.Connect(ctx, packet)
	switch {
	case err == nil:
		return client, nil
	case answer != nil && (answer.ReasonCode == packets.ConnackBadUsernameOrPassword || answer.ReasonCode == packets.ConnackNotAuthorized):
		return nil, fmt.Errorf("%w: reason %#x", mqttcred.ErrRefused, answer.ReasonCode)
	default:
		return nil, fmt.Errorf("connecting: %w", err)
	}
}

func (c *Client) receive(message *paho.Publish, notices mqttcred.Notices) {
	if notice, is := notices.Take(message.Topic, message.Payload); is {
		c.o.OnEvent(mqttcred.Event{Kind: mqttcred.Noticed, Notice: notice})
		return
	}
	if c.o.OnMessage != nil {
		c.o.OnMessage(message)
	}
}

// upload gives the broker new tokens while nobody publishes.
func (c *Client) upload(ctx context.Context, messages [][]byte) error {
	if err := c.gate.Shut(ctx); err != nil {
		return err
	}
	for _, message := range messages {
		if err := publish(ctx, c.live, &paho.Publish{Topic: mqttcred.TopicUpload, QoS: atLeastOnce, Payload: message}); err != nil {
			return err
		}
	}
	c.gate.Open()
	c.o.OnEvent(mqttcred.Event{Kind: mqttcred.Uploaded})
	return nil
}

func publish(ctx context.Context, client *paho.Client, message *paho.Publish) error {
	ctx, cancel := context.WithTimeoutCause(ctx, answerWithin, errors.New("no answer from the broker"))
	defer cancel()
	if _, err := client.Publish(ctx, message); err != nil {
		return fmt.Errorf("publishing to %s: %w", message.Topic, errors.Join(err, context.Cause(ctx)))
	}
	return nil
}
