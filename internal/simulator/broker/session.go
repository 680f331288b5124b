package broker

import (
	"encoding/json"
	"sync"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/simulator/state"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/topic"
)

// The topics by which broker and client speak about tokens.
const (
	topicUpload  = "$SYS/uploadToken"
	topicExpire  = "$SYS/tokenExpireNotice"
	topicInvalid = "$SYS/tokenInvalidNotice"
)

// expireWarning is how long before its end a token is announced to end.
const expireWarning = 5 * time.Minute

// fault is the documented number for what is wrong with a token; zero means nothing.
type fault int

// The documented numbers.
const (
	faultNone    fault = 0
	faultForged  fault = 1
	faultExpired fault = 2
	faultRevoked fault = 3
	faultTopic   fault = 4
	faultType    fault = 5
	faultAccount fault = -1
)

// invalidNotice is the payload of a notice before a disconnect.
type invalidNotice struct {
	Code fault  `json:"code"`
	Type string `json:"type"`
}

// expireNotice is the payload of a notice before a token's end.
type expireNotice struct {
	ExpireTime int64  `json:"expireTime"`
	Type       string `json:"type"`
}

// session is what the broker knows of a connection.
type session struct {
	client   *mqtt.Client
	identity identity
	issuer   *state.State
	gone     chan struct{} // closed once the server is through with the connection

	mu     sync.Mutex
	tokens map[token.Type]held
	// established is set once CONNACK is out: nothing may be sent before.
	established bool
	ended       bool
}

func newSession(client *mqtt.Client, who identity, issuer *state.State) *session {
	return &session{client: client, identity: who, issuer: issuer, gone: make(chan struct{}), tokens: map[token.Type]held{}}
}

// held is a token of a session. The text is not kept.
type held struct {
	id     string
	warned bool
}

// kinds fixes the order in which a session's tokens are looked at.
func kinds() []token.Type {
	return []token.Type{token.PublishSubscribe, token.Subscribe, token.Publish}
}

// accept takes a token into the session, in the place of the one of its type, unless something is wrong with it.
func (s *session) accept(offer presented) fault {
	known, validity := s.issuer.Resolve(offer.text)
	if wrong := faultOf(validity); wrong != faultNone {
		return wrong
	}
	if known.InstanceID != s.identity.instanceID || !s.issuer.MayCarry(s.identity.keyID, known) {
		return faultAccount
	}
	if known.Type != offer.kind {
		return faultType
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens[offer.kind] = held{id: known.ID}
	return faultNone
}

func faultOf(validity state.Validity) fault {
	switch validity {
	case state.Valid:
		return faultNone
	case state.Expired:
		return faultExpired
	case state.Revoked:
		return faultRevoked
	case state.Unknown:
	}
	return faultForged
}

// current looks the session's tokens up, in the order of kinds.
func (s *session) current() []looked {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []looked
	for _, kind := range kinds() {
		if h, has := s.tokens[kind]; has {
			known, validity := s.issuer.Lookup(h.id)
			found = append(found, looked{held: h, known: known, validity: validity, kind: kind})
		}
	}
	return found
}

type looked struct {
	held     held
	known    state.Token
	validity state.Validity
	kind     token.Type
}

// invalid finds a token that has ended. With spare it looks past those that were revoked.
func (s *session) invalid(spareRevoked bool) *invalidNotice {
	for _, t := range s.current() {
		if t.validity == state.Valid || spareRevoked && t.validity == state.Revoked {
			continue
		}
		return &invalidNotice{Code: faultOf(t.validity), Type: lettersOf(t.kind)}
	}
	return nil
}

// judge says why the session may not do something, or nil if it may. Every token of the session must be valid for that,
// not only the one that permits it.
func (s *session) judge(action token.Action, covered func(state.Token) bool) *invalidNotice {
	if notice := s.invalid(false); notice != nil {
		return notice
	}
	notice := &invalidNotice{Code: faultTopic, Type: map[token.Action]string{token.ActionPublish: "W", token.ActionSubscribe: "R"}[action]}
	for _, t := range s.current() {
		includes, covers := t.kind.Includes(action), covered(t.known)
		switch {
		case includes && covers:
			return nil
		case includes:
			notice.Type = lettersOf(t.kind)
		case covers:
			notice.Code = faultType
		}
	}
	return notice
}

func (s *session) judgePublish(name string) *invalidNotice {
	return s.judge(token.ActionPublish, func(t state.Token) bool { return t.Matches(name) })
}

func (s *session) judgeSubscribe(text string) *invalidNotice {
	filter, err := topic.Parse(text)
	return s.judge(token.ActionSubscribe, func(t state.Token) bool { return err == nil && t.Covers(filter) })
}

// warn announces each token that ends soon, once.
func (s *session) warn(now time.Time) {
	for _, t := range s.current() {
		if t.held.warned || t.known.Expires.Sub(now) > expireWarning {
			continue
		}
		s.mu.Lock()
		if current := s.tokens[t.kind]; current.id == t.held.id {
			s.tokens[t.kind] = held{id: current.id, warned: true}
		}
		s.mu.Unlock()
		s.send(topicExpire, expireNotice{ExpireTime: t.known.Expires.UnixMilli(), Type: lettersOf(t.kind)})
	}
}

// send pushes a system message. It may be lost, as the service's may.
func (s *session) send(name string, payload any) {
	text, err := json.Marshal(payload)
	if err != nil {
		return // cannot happen: payloads hold numbers and letters
	}
	//nolint:errcheck // A client that is gone needs no notice.
	_ = s.client.WritePacket(packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Publish}, TopicName: name, Payload: text,
	})
}

// end reports whether the session is to be ended now, and not for the second time or before it began.
func (s *session) end() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended || !s.established {
		return false
	}
	s.ended = true
	return true
}

func (s *session) establish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.established = true
}

func (s *session) live() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.established && !s.ended && !s.client.Closed()
}
