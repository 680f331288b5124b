package broker

import (
	"strings"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// topicAccepted stands for topicUpload inside the server, which would drop a client's message to $SYS without an
// acknowledgement before any hook could see it. No token covers a topic that begins with $, so no client can publish to it.
const topicAccepted = "$uploadToken"

// hook holds the server to the tokens. All checks happen as a packet is read: what the server does by itself with a
// denied packet is not what the service does.
type hook struct {
	mqtt.HookBase
	broker *Broker
}

// ID names the hook.
func (h *hook) ID() string { return "tokens" }

// Provides says which events the hook takes part in.
func (h *hook) Provides(event byte) bool {
	switch event {
	case mqtt.OnConnect, mqtt.OnConnectAuthenticate, mqtt.OnACLCheck, mqtt.OnPacketRead, mqtt.OnPublish,
		mqtt.OnSessionEstablished:
		return true
	}
	return false
}

// OnConnect admits a client or refuses it with the code that its protocol has for the reason. It does not leave that to
// OnConnectAuthenticate, after which the server knows one code only.
func (h *hook) OnConnect(client *mqtt.Client, packet packets.Packet) error {
	h.broker.connects.Add(1)
	refusal := h.broker.admit(client, packet.Connect)
	if refusal == packets.CodeSuccess {
		return nil
	}
	_ = h.broker.server.SendConnack(client, refusal, false, nil) //nolint:errcheck // It fails only when the client is gone.
	return refusal
}

// OnConnectAuthenticate has nothing left to refuse after OnConnect.
func (h *hook) OnConnectAuthenticate(*mqtt.Client, packets.Packet) bool { return true }

// OnSessionEstablished opens the session to notices, and to messages for this client alone, which need no subscription.
func (h *hook) OnSessionEstablished(client *mqtt.Client, _ packets.Packet) {
	direct := packets.Subscription{Filter: "+/p2p/" + client.ID, Qos: 1}
	h.broker.server.Topics.Subscribe(client.ID, direct)
	client.State.Subscriptions.Add(direct.Filter, direct)
	if s := h.broker.session(client); s != nil {
		s.establish()
	}
}

// OnPacketRead checks a packet against the session's tokens and ends the session where they do not permit it.
func (h *hook) OnPacketRead(client *mqtt.Client, packet packets.Packet) (packets.Packet, error) {
	if packet.FixedHeader.Type == packets.Connect {
		return withoutWill(packet), nil
	}
	s := h.broker.session(client)
	if s == nil {
		return packet, packets.ErrRejectPacket
	}
	var notice *invalidNotice
	switch packet.FixedHeader.Type {
	case packets.Publish:
		packet.TopicName, notice = h.publish(s, packet)
	case packets.Subscribe:
		notice = h.subscribe(s, packet)
	}
	if notice != nil {
		h.broker.cut(s, *notice)
		return packet, packets.ErrRejectPacket
	}
	return packet, nil
}

// publish judges a message and returns the topic under which the server shall go on with it.
func (h *hook) publish(s *session, packet packets.Packet) (string, *invalidNotice) {
	switch packet.TopicName {
	case "":
		return "", nil // a topic alias, which the server refuses because none were offered
	case topicUpload:
		return topicAccepted, h.upload(s, packet.Payload)
	default:
		return packet.TopicName, s.judgePublish(packet.TopicName)
	}
}

func (h *hook) upload(s *session, payload []byte) *invalidNotice {
	offer, err := parseUpload(payload)
	if err != nil {
		return &invalidNotice{Code: faultForged, Type: lettersOf(offer.kind)}
	}
	if wrong := s.accept(offer); wrong != faultNone {
		return &invalidNotice{Code: wrong, Type: lettersOf(offer.kind)}
	}
	return nil
}

func (h *hook) subscribe(s *session, packet packets.Packet) *invalidNotice {
	for _, subscription := range packet.Filters {
		if notice := s.judgeSubscribe(subscription.Filter); notice != nil {
			return notice
		}
	}
	return nil
}

// OnPublish keeps uploads from subscribers; the server acknowledges them like any message.
func (h *hook) OnPublish(_ *mqtt.Client, packet packets.Packet) (packets.Packet, error) {
	if packet.TopicName == topicAccepted {
		return packet, packets.CodeSuccessIgnore
	}
	return packet, nil
}

// OnACLCheck is asked once more about what OnPacketRead has judged, and about each delivery.
func (h *hook) OnACLCheck(client *mqtt.Client, name string, write bool) bool {
	if write || !h.broker.issuer.Switches().RecheckSubscriptions || strings.HasSuffix(name, "/p2p/"+client.ID) {
		return true
	}
	s := h.broker.session(client)
	return s != nil && s.judgeSubscribe(name) == nil
}

// withoutWill takes the will away: the service has none, and one would pass by the tokens.
func withoutWill(packet packets.Packet) packets.Packet {
	packet.Connect.WillFlag, packet.Connect.WillRetain, packet.Connect.WillQos = false, false, 0
	packet.Connect.WillTopic, packet.Connect.WillPayload = "", nil
	return packet
}
