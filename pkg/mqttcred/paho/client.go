// Package paho keeps an MQTT 3.1.1 client (github.com/eclipse/paho.mqtt.golang) connected with the tokens of a mounted
// Secret: it uploads new ones over the open connection, and connects anew where that does not do.
package paho

import (
	"context"
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
	OnEvent func(mqttcred.Event)
}

// CredentialsProvider is for a client of your own that reconnects by itself: it reads the files before each CONNECT. Such a
// client knows neither when not to try nor how to upload new tokens.
func CredentialsProvider(source *mqttcred.Source) mqtt.CredentialsProvider {
	return func() (username, password string) {
		current, err := source.Current()
		if err != nil { // what the broker refuses
			return "", ""
		}
		return current.Username, current.Password
	}
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
		o.OnEvent = func(mqttcred.Event) {}
	}
	return &Client{source: source, o: o, gate: turnstile.New()}
}

// String says what it is, and holds nothing of what it connects with.
func (c *Client) String() string { return fmt.Sprintf("MQTT 3.1.1 client of %s", c.source) }

// Format prints that for every verb: the library's own client, in a field, would be printed with the password.
func (c *Client) Format(state fmt.State, _ rune) { state.Write([]byte(c.String())) }

// Run connects, again and again, until the context ends, and returns its error.
func (c *Client) Run(ctx context.Context) error { return c.source.Keep(ctx, c.session, c.o.OnEvent) }

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
	notices := mqttcred.NewNotices()
	options, err := c.options(used, end)
	if err != nil {
		return used, err
	}
	client := mqtt.NewClient(options)
	c.listen(client, notices)
	defer client.Disconnect(quiesce)
	if err := connect(ctx, client); err != nil {
		return used, err
	}
	if c.o.OnConnect != nil {
		if err := c.o.OnConnect(ctx, client); err != nil {
			return used, notices.Explain(fmt.Errorf("after connecting: %w", err))
		}
	}
	c.o.OnEvent(mqttcred.Event{Kind: mqttcred.Connected, Credentials: used})
	c.live = client
	c.gate.Open()
	last, err := c.source.Refresh(ctx, used, c.upload)
	// Whoever publishes waits for the connection, which ends first.
	end(nil)
	client.Disconnect(quiesce)
	if shut := c.gate.Shut(context.WithoutCancel(ctx)); shut != nil {
		return last, shut
	}
	return last, notices.Explain(err)
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
	c.o.OnEvent(mqttcred.Event{Kind: mqttcred.Uploaded})
	return nil
}

// listen has notices come here. The library's default handler would do only as long as no filter of the program matches.
func (c *Client) listen(client mqtt.Client, notices mqttcred.Notices) {
	for _, topic := range []string{mqttcred.TopicInvalidNotice, mqttcred.TopicExpireNotice, mqttcred.TopicExpireNoticeVariant} {
		client.AddRoute(topic, func(_ mqtt.Client, message mqtt.Message) {
			if notice, is := notices.Take(message.Topic(), message.Payload()); is {
				c.o.OnEvent(mqttcred.Event{Kind: mqttcred.Noticed, Notice: notice})
			}
		})
	}
}

func (c *Client) options(used mqttcred.Credentials, end context.CancelCauseFunc) (*mqtt.ClientOptions, error) {
	trust, err := used.TLS()
	if err != nil {
		return nil, err
	}
	id, err := used.ClientIDFor(c.o.Name)
	if err != nil {
		return nil, err
	}
	options := mqtt.NewClientOptions().AddBroker(used.URL).SetClientID(id).
		SetUsername(used.Username).SetPassword(used.Password).SetTLSConfig(trust).SetProtocolVersion(version311).
		SetConnectTimeout(answerWithin)
	if c.o.Configure != nil {
		c.o.Configure(options)
	}
	lost := options.OnConnectionLost
	options.SetConnectionLostHandler(func(client mqtt.Client, err error) {
		end(fmt.Errorf("the connection is lost: %w", err))
		if lost != nil {
			lost(client, err)
		}
	})
	return options.SetAutoReconnect(false).SetConnectRetry(false), nil // only Run knows when to connect, and with what
}

func connect(ctx context.Context, client mqtt.Client) error {
	err := await(ctx, client.Connect())
	switch {
	case errors.Is(err, packets.ErrorRefusedBadUsernameOrPassword), errors.Is(err, packets.ErrorRefusedNotAuthorised):
		return fmt.Errorf("%w: %w", mqttcred.ErrRefused, err)
	case err != nil:
		return fmt.Errorf("connecting: %w", err)
	}
	return nil
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

// Subscribe subscribes in OnConnect, and waits for the broker's answer. A filter such as "#" has notices come to its handler,
// too.
func Subscribe(ctx context.Context, client mqtt.Client, filter string, qos byte, take mqtt.MessageHandler) error {
	if err := await(ctx, client.Subscribe(filter, qos, take)); err != nil {
		return fmt.Errorf("subscribing to %s: %w", filter, err)
	}
	return nil
}
