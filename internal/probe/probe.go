// Package probe asks a broker, as a client would, whether it admits a token.
package probe

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
)

// Target is what to ask, and as whom.
type Target struct {
	Host string
	Port int32 // of MQTT over TLS
	// CA holds PEM certificates to trust instead of the system's; nil: the system's.
	CA       []byte
	ClientID string
	Username string
	Password token.Value
	// Topic is published to, and received from.
	Topic string
}

// Step names a part of the conversation.
type Step string

// The steps, in their order.
const (
	StepReach     Step = "reach"
	StepConnect   Step = "CONNECT"
	StepSubscribe Step = "SUBSCRIBE"
	StepPublish   Step = "PUBLISH"
	StepReceive   Step = "receive"
)

// RefusedError says how far the conversation came, and what stood in its way. Its text is stable, and holds no secret.
type RefusedError struct {
	Step   Step
	Answer string
}

// Error implements error.
func (r *RefusedError) Error() string { return fmt.Sprintf("%s: %s", r.Step, r.Answer) }

const (
	// Timeout bounds the whole conversation.
	Timeout = 15 * time.Second

	maxPacket      = 64 << 10
	keepaliveSecs  = 30
	mqtt311        = 4
	subscriptionID = 1
	publicationID  = 2
	refused        = 0x80
)

// Ask connects to the broker over TLS, subscribes to the topic, publishes to it and waits for the message. The error is a
// *RefusedError.
func Ask(ctx context.Context, t Target) error {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	talk, err := dial(ctx, t)
	if err != nil {
		return err
	}
	defer func() { _ = talk.connection.Close() }()
	for _, step := range []struct {
		step Step
		do   func(Target) error
	}{{StepConnect, talk.connect}, {StepSubscribe, talk.subscribe}, {StepPublish, talk.publish}, {StepReceive, talk.receive}} {
		if err := step.do(t); err != nil {
			return &RefusedError{Step: step.step, Answer: wordOf(err)}
		}
	}
	return nil
}

// conversation is an open connection to a broker.
type conversation struct {
	connection net.Conn
	reader     *bufio.Reader
	received   bool // the message that we published
}

func dial(ctx context.Context, t Target) (*conversation, error) {
	settings := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.Host}
	if len(t.CA) > 0 {
		settings.RootCAs = x509.NewCertPool()
		if !settings.RootCAs.AppendCertsFromPEM(t.CA) {
			return nil, &RefusedError{Step: StepReach, Answer: "the caBundle holds no certificate"}
		}
	}
	dialer := tls.Dialer{Config: settings}
	connection, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(t.Host, strconv.Itoa(int(t.Port))))
	if err != nil {
		return nil, &RefusedError{Step: StepReach, Answer: wordOf(err)}
	}
	if deadline, bounded := ctx.Deadline(); bounded {
		if err := connection.SetDeadline(deadline); err != nil {
			return nil, &RefusedError{Step: StepReach, Answer: wordOf(err)}
		}
	}
	return &conversation{connection: connection, reader: bufio.NewReader(connection)}, nil
}

// answerError is the broker's own word.
type answerError string

func (a answerError) Error() string { return string(a) }

// wordOf says in stable words what went wrong: addresses and ports of the moment are not among them.
func wordOf(err error) string {
	var network net.Error
	switch {
	case errors.As(err, new(answerError)):
		return err.Error()
	case errors.As(err, new(*tls.CertificateVerificationError)):
		return "the broker's certificate is not trusted"
	case errors.As(err, &network) && network.Timeout(), errors.Is(err, context.DeadlineExceeded):
		return "no answer in time"
	case errors.As(err, new(*net.DNSError)):
		return "the broker's name is not known"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the broker closed the connection"
	}
	if operation := new(net.OpError); errors.As(err, &operation) && operation.Op == "dial" {
		return "no connection"
	}
	return "the connection broke"
}

func (c *conversation) connect(t Target) error {
	var out bytes.Buffer
	request := packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Connect}, ProtocolVersion: mqtt311,
		Connect: packets.ConnectParams{
			ProtocolName: []byte("MQTT"), Clean: true, Keepalive: keepaliveSecs, ClientIdentifier: t.ClientID,
			UsernameFlag: true, Username: []byte(t.Username), PasswordFlag: true, Password: []byte(t.Password.Reveal()),
		},
	}
	if err := request.ConnectEncode(&out); err != nil {
		return answerError("the request cannot be written")
	}
	answer, err := c.exchange(&out, packets.Connack)
	if err == nil && answer.ReasonCode != 0 {
		return answerError(connackWord(answer.ReasonCode))
	}
	return err
}

// connackWord says what MQTT 3.1.1 means by a return code.
func connackWord(code byte) string {
	words := []string{"", "unacceptable protocol version", "client id rejected", "server unavailable", "bad user name or password", "not authorized"}
	if int(code) < len(words) {
		return fmt.Sprintf("%s (code %d)", words[code], code)
	}
	return fmt.Sprintf("code %d", code)
}

func (c *conversation) subscribe(t Target) error {
	var out bytes.Buffer
	request := packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Subscribe, Qos: 1}, ProtocolVersion: mqtt311, PacketID: subscriptionID,
		Filters: packets.Subscriptions{{Filter: t.Topic, Qos: 1}},
	}
	if err := request.SubscribeEncode(&out); err != nil {
		return answerError("the request cannot be written")
	}
	answer, err := c.exchange(&out, packets.Suback)
	if err == nil && slices.ContainsFunc(answer.ReasonCodes, func(code byte) bool { return code >= refused }) {
		return answerError("refused")
	}
	return err
}

func (c *conversation) publish(t Target) error {
	var out bytes.Buffer
	request := packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 1}, ProtocolVersion: mqtt311, PacketID: publicationID,
		TopicName: t.Topic, Payload: []byte("probe"),
	}
	if err := request.PublishEncode(&out); err != nil {
		return answerError("the request cannot be written")
	}
	_, err := c.exchange(&out, packets.Puback)
	return err
}

func (c *conversation) receive(Target) error {
	for !c.received {
		if _, err := c.read(); err != nil {
			return err
		}
	}
	return nil
}

// exchange sends a request and waits for the answer of a kind. What else comes meanwhile is taken in.
func (c *conversation) exchange(request *bytes.Buffer, kind byte) (packets.Packet, error) {
	if _, err := c.connection.Write(request.Bytes()); err != nil {
		return packets.Packet{}, err
	}
	for {
		answer, err := c.read()
		if err != nil || answer.FixedHeader.Type == kind {
			return answer, err
		}
	}
}

// read reads one packet of a peer that may send anything.
func (c *conversation) read() (packets.Packet, error) {
	packet := packets.Packet{ProtocolVersion: mqtt311}
	first, err := c.reader.ReadByte()
	if err != nil {
		return packet, err
	}
	if packet.FixedHeader.Decode(first) != nil {
		return packet, errNotMQTT
	}
	length, _, err := packets.DecodeLength(c.reader)
	if err != nil || length > maxPacket {
		return packet, errNotMQTT
	}
	packet.FixedHeader.Remaining = length
	body := make([]byte, length)
	if _, err := io.ReadFull(c.reader, body); err != nil {
		return packet, err
	}
	switch packet.FixedHeader.Type {
	case packets.Connack:
		err = packet.ConnackDecode(body)
	case packets.Suback:
		err = packet.SubackDecode(body)
	case packets.Publish:
		err = packet.PublishDecode(body)
		c.received = err == nil || c.received
	}
	if err != nil {
		return packet, errNotMQTT
	}
	return packet, nil
}

const errNotMQTT = answerError("the answer is not MQTT")
