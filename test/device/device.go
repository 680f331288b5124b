// Package device is an MQTT client that knows nothing but the files of a mounted token Secret, as an application would.
package device

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/mqtt-token-operator/mqtt-token-operator/pkg/mqttcred"
)

const (
	// answerWithin is how long the broker may take for an answer.
	answerWithin = 10 * time.Second
	noticeWithin = time.Second
	atLeastOnce  = 1

	// TopicUpload takes a new token for an open connection.
	TopicUpload  = "$SYS/uploadToken"
	topicInvalid = "$SYS/tokenInvalidNotice"
)

// Notice is what the broker says before it cuts a client off.
type Notice struct {
	Code int    `json:"code"`
	Type string `json:"type"`
}

// Device is a connected MQTT client.
type Device struct {
	mqtt     mqtt.Client
	received chan string
	notices  chan Notice
	lost     chan struct{}
}

// Connect connects with nothing but the files of a mounted Secret.
func Connect(folder string) (*Device, error) {
	files, err := mqttcred.Load(folder)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(files.CA) {
		return nil, fmt.Errorf("%s holds no certificate", mqttcred.KeyCA)
	}
	d := &Device{received: make(chan string, 64), notices: make(chan Notice, 8), lost: make(chan struct{})}
	options := mqtt.NewClientOptions().AddBroker(files.URL).SetClientID(files.ClientID).
		SetUsername(files.Username).SetPassword(files.Password).
		SetTLSConfig(&tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}).
		SetProtocolVersion(4).SetAutoReconnect(false).SetConnectTimeout(answerWithin).
		SetDefaultPublishHandler(d.take).
		SetConnectionLostHandler(func(mqtt.Client, error) { close(d.lost) })
	d.mqtt = mqtt.NewClient(options)
	if err := await(d.mqtt.Connect()); err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", files.URL, err)
	}
	return d, nil
}

// take receives a message or one of the broker's notices. What nobody waits for is dropped.
func (d *Device) take(_ mqtt.Client, message mqtt.Message) {
	if message.Topic() != topicInvalid {
		select {
		case d.received <- string(message.Payload()):
		default:
		}
		return
	}
	var n Notice
	if json.Unmarshal(message.Payload(), &n) == nil {
		select {
		case d.notices <- n:
		default:
		}
	}
}

// Publish publishes a message and waits until the broker has taken it.
func (d *Device) Publish(topic, message string) error {
	if err := await(d.mqtt.Publish(topic, atLeastOnce, false, message)); err != nil {
		return fmt.Errorf("publishing to %s: %w", topic, err)
	}
	return nil
}

// Subscribe subscribes to a filter and waits until the broker has agreed.
func (d *Device) Subscribe(filter string) error {
	if err := await(d.mqtt.Subscribe(filter, atLeastOnce, nil)); err != nil {
		return fmt.Errorf("subscribing to %s: %w", filter, err)
	}
	return nil
}

// Upload replaces the tokens of the connection by those in the files.
func (d *Device) Upload(folder string) error {
	files, err := mqttcred.Load(folder)
	if err != nil {
		return err
	}
	for _, t := range files.Tokens {
		payload, err := json.Marshal(map[string]string{"type": t.Type, "token": t.Token})
		if err != nil {
			return fmt.Errorf("writing an upload: %w", err)
		}
		if err := d.Publish(TopicUpload, string(payload)); err != nil {
			return err
		}
	}
	return nil
}

// Expect waits for a message.
func (d *Device) Expect(ctx context.Context, message string) error {
	limit := time.NewTimer(answerWithin)
	defer limit.Stop()
	for {
		select {
		case got := <-d.received:
			if got == message {
				return nil
			}
		case <-limit.C:
			return fmt.Errorf("the message %q did not arrive within %s", message, answerWithin)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// CutOff waits for the broker to end the connection and returns what it said before; the zero notice if nothing.
func (d *Device) CutOff(ctx context.Context) (Notice, error) {
	limit := time.NewTimer(answerWithin)
	defer limit.Stop()
	select {
	case <-d.lost:
	case <-limit.C:
		return Notice{}, fmt.Errorf("the client was not cut off within %s", answerWithin)
	case <-ctx.Done():
		return Notice{}, context.Cause(ctx)
	}
	select { // the two come by different ways, so the notice may be the later one
	case n := <-d.notices:
		return n, nil
	case <-time.After(noticeWithin):
		return Notice{}, nil
	}
}

// Close disconnects; it may be called on no device at all.
func (d *Device) Close() {
	if d != nil {
		d.mqtt.Disconnect(0)
	}
}

func await(answer mqtt.Token) error {
	if !answer.WaitTimeout(answerWithin) {
		return fmt.Errorf("no answer within %s", answerWithin)
	}
	return answer.Error()
}
