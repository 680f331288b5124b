// Package paho keeps an MQTT 3.1.1 client (github.com/eclipse/paho.mqtt.golang) connected with the tokens of a mounted
// Secret: it uploads new ones over the open connection, and connects anew where that does not do.
package paho

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"

	"github.com/mqtt-token-operator/mqtt-token-operator/pkg/mqttcred"
	"github.com/mqtt-token-operator/mqtt-token-operator/pkg/mqttcred/internal/turnstile"
)

const (
	// answerWithin is how long the broker may take to acknowledge a CONNECT or an upload.
	answerWithin = 10 * time.Second
	// noticeWithin is how long a notice may come after the end of the connection that it is about.
	noticeWithin = 200 * time.Millisecond
	version311   = 4
	quiesce      = 250 // milliseconds
	atLeastOnce  = 1
)

// Options says how a client behaves. All of it is optional.
type Options struct {
	// Name tells the clients of a group apart where the grant names no device: the pod's name, as a rule.
	Name string
	// Configure has the last word on the options of each connection: handlers, keep alive, a will.
	Configure func(*mqtt.ClientOptions)
	// OnConnect is called for each new connection, before anybody may publish: subscribe here. An error ends the connection.
	OnConnect func(context.Context, mqtt.Client) error
	// OnEvent learns what happens, for a log; no secret is in it.
	OnEvent func(Event)
}

// Client keeps a connection with the tokens of a mounted Secret. It is safe for concurrent use.
type Client struct {
	source *mqttcred.Source
	o      Options
	gate   *turnstile.Turnstile
	live   mqtt.Client // only whoever has entered the gate, or shut it, may use it
}

// New returns a client that connects once it runs.
func New(source *mqttcred.Source, o Options) *Client {
	if o.OnEvent == nil {
		o.OnEvent = func(Event) {}
	}
	return &Client{source: source, o: o, gate: turnstile.New()}
}

// Run connects, again and again, until the context ends, and returns its error.
func (c *Client) Run(ctx context.Context) error {
	for {
		used, err := c.source.Await(ctx, func(why error) { c.o.OnEvent(Event{Kind: Waiting, Err: why}) })
		if err != nil {
			return err
		}
		began := time.Now() //nolint:forbidigo // the broker's time is the real one
		last, err := c.session(ctx, used)
		lasted := time.Since(began) //nolint:forbidigo // the broker's time is the real one
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		c.source.Ended(last, endingOf(err), lasted)
		c.o.OnEvent(Event{Kind: Disconnected, Err: err})
	}
}

// Publish publishes a message once there is a connection and no token is being uploaded, and waits for the broker's
// acknowledgement. A message whose connection is lost meanwhile may have arrived or not; the caller decides whether to
// publish it again.
func (c *Client) Publish(ctx context.Context, topic string, qos byte, retained bool, payload any) error {
	leave, err := c.gate.Enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	if err := await(ctx, c.live.Publish(topic, qos, retained, payload)); err != nil {
		return fmt.Errorf("publishing to %s: %w", topic, err)
	}
	return nil
}

// session is one connection, from CONNECT to its end. It returns the credentials that the connection had in the end.
func (c *Client) session(ctx context.Context, used mqttcred.Credentials) (mqttcred.Credentials, error) {
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	notices := make(chan mqttcred.Notice, 8)
	options, err := c.options(used, end, notices)
	if err != nil {
		return used, err
	}
	client := mqtt.NewClient(options)
	defer client.Disconnect(quiesce)
	if err := connect(ctx, client); err != nil {
		return used, err
	}
	if c.o.OnConnect != nil {
		if err := c.o.OnConnect(ctx, client); err != nil {
			return used, told(fmt.Errorf("after connecting: %w", err), noticed(notices))
		}
	}
	c.o.OnEvent(Event{Kind: Connected, Credentials: used})
	c.live = client
	c.gate.Open()
	last, err := c.source.Refresh(ctx, used, c.upload)
	// Whoever publishes waits for the connection, which ends first.
	end(nil)
	client.Disconnect(quiesce)
	if shut := c.gate.Shut(context.WithoutCancel(ctx)); shut != nil {
		return last, shut
	}
	return last, told(err, noticed(notices))
}

// told is why a connection ended, and what the broker said about that.
func told(err, notice error) error {
	if notice == nil {
		return err
	}
	return fmt.Errorf("%w (%w)", notice, err)
}

// upload gives the broker new tokens while nobody publishes.
func (c *Client) upload(ctx context.Context, messages [][]byte) error {
	if err := c.gate.Shut(ctx); err != nil {
		return err
	}
	for _, message := range messages {
		if err := await(ctx, c.live.Publish(mqttcred.TopicUpload, atLeastOnce, false, message)); err != nil {
			return fmt.Errorf("uploading a token: %w", err)
		}
	}
	c.gate.Open()
	c.o.OnEvent(Event{Kind: Uploaded})
	return nil
}

func (c *Client) options(used mqttcred.Credentials, end context.CancelCauseFunc, notices chan<- mqttcred.Notice) (*mqtt.ClientOptions, error) {
	trust := &tls.Config{MinVersion: tls.VersionTLS12}
	if used.CA != nil {
		trust.RootCAs = x509.NewCertPool()
		if !trust.RootCAs.AppendCertsFromPEM(used.CA) {
			return nil, fmt.Errorf("%s holds no certificate", mqttcred.KeyCA)
		}
	}
	options := mqtt.NewClientOptions().AddBroker(used.URL).SetClientID(used.ClientIDFor(c.o.Name)).
		SetUsername(used.Username).SetPassword(used.Password).SetTLSConfig(trust).SetProtocolVersion(version311).
		SetConnectTimeout(answerWithin)
	if c.o.Configure != nil {
		c.o.Configure(options)
	}
	theirs := options.DefaultPublishHandler
	options.SetDefaultPublishHandler(func(client mqtt.Client, message mqtt.Message) {
		if notice, is := mqttcred.ParseNotice(message.Topic(), message.Payload()); is {
			c.o.OnEvent(Event{Kind: Noticed, Notice: notice})
			select {
			case notices <- notice:
			default: // the broker says the same again and again
			}
			return
		}
		if theirs != nil {
			theirs(client, message)
		}
	})
	lost := options.OnConnectionLost
	options.SetConnectionLostHandler(func(client mqtt.Client, err error) {
		end(fmt.Errorf("the connection is lost: %w", err))
		if lost != nil {
			lost(client, err)
		}
	})
	return options.SetAutoReconnect(false).SetConnectRetry(false), nil // only Run knows when to connect, and with what
}

// refusedError says that the broker does not take the credentials, or not any more.
type refusedError struct{ why error }

// Error implements error.
func (e *refusedError) Error() string { return "the broker does not take the tokens: " + e.why.Error() }

// Unwrap returns what the broker said.
func (e *refusedError) Unwrap() error { return e.why }

func connect(ctx context.Context, client mqtt.Client) error {
	err := await(ctx, client.Connect())
	switch {
	case errors.Is(err, packets.ErrorRefusedBadUsernameOrPassword), errors.Is(err, packets.ErrorRefusedNotAuthorised):
		return &refusedError{why: err}
	case err != nil:
		return fmt.Errorf("connecting: %w", err)
	}
	return nil
}

// noticed is what the broker said of a token whose life is over; it may come by after the end of the connection.
func noticed(notices <-chan mqttcred.Notice) error {
	limit := time.NewTimer(noticeWithin) //nolint:forbidigo // the broker's time is the real one
	defer limit.Stop()
	for {
		select {
		case notice := <-notices:
			if notice.IsOver() {
				return &refusedError{why: errors.New(notice.String())}
			}
		case <-limit.C:
			return nil
		}
	}
}

func endingOf(err error) mqttcred.Ending {
	_, refused := errors.AsType[*refusedError](err)
	switch {
	case refused:
		return mqttcred.Refused
	case errors.Is(err, mqttcred.ErrReconnect):
		return mqttcred.Replaced
	}
	return mqttcred.Lost
}

func await(ctx context.Context, answer mqtt.Token) error {
	limit := time.NewTimer(answerWithin) //nolint:forbidigo // the broker's time is the real one
	defer limit.Stop()
	select {
	case <-answer.Done():
		return answer.Error()
	case <-limit.C:
		return fmt.Errorf("no answer within %s", answerWithin)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Subscribe subscribes in OnConnect, and waits for the broker's answer.
func Subscribe(ctx context.Context, client mqtt.Client, filter string, qos byte, take mqtt.MessageHandler) error {
	if err := await(ctx, client.Subscribe(filter, qos, take)); err != nil {
		return fmt.Errorf("subscribing to %s: %w", filter, err)
	}
	return nil
}
