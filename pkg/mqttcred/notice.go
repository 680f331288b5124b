package mqttcred

import (
	"encoding/json"
	"fmt"
	"time"
)

// Topics by which client and broker speak about tokens. No permission and no subscription is needed for them.
const (
	// TopicUpload takes a token for the connection that publishes it, with QoS 1.
	TopicUpload = "$SYS/uploadToken"
	// TopicExpireNotice brings word that a token is about to end. One of the vendor's pages spells it the second way.
	TopicExpireNotice        = "$SYS/tokenExpireNotice"
	TopicExpireNoticeVariant = "$SYS/tokenExprireNotice"
	// TopicInvalidNotice brings word of what is wrong with a token, right before the broker ends the connection.
	TopicInvalidNotice = "$SYS/tokenInvalidNotice"
)

// Codes of a notice that say that a token's life is over.
const (
	CodeExpired = 2
	CodeRevoked = 3
)

// Notice is what the broker says about a token of a connection, unasked. It may also say nothing before it cuts a client
// off.
type Notice struct {
	// Invalid says that the broker ends the connection; otherwise the token is about to end.
	Invalid bool
	// Code is the broker's reason; only if Invalid.
	Code int
	// Type is the token's: R, W or RW.
	Type string
	// ExpiresAt is when the token ends; only if not Invalid.
	ExpiresAt time.Time
}

// String describes the notice.
func (n Notice) String() string {
	if n.Invalid {
		return fmt.Sprintf("token of type %s is not valid: code %d", n.Type, n.Code)
	}
	return fmt.Sprintf("token of type %s ends at %s", n.Type, n.ExpiresAt.UTC().Format(time.RFC3339))
}

// IsOver reports whether the token has expired or was revoked: do not connect with it again.
func (n Notice) IsOver() bool { return n.Invalid && (n.Code == CodeExpired || n.Code == CodeRevoked) }

// ParseNotice reads a message, in either spelling that the vendor's pages have. It returns false for any other message.
func ParseNotice(topic string, payload []byte) (Notice, bool) {
	var said struct {
		Code    int    `json:"code"`
		Type    string `json:"type"`
		Expires int64  `json:"expireTime"` // milliseconds since 1970
		Variant int64  `json:"exprireTime"`
	}
	switch topic {
	case TopicInvalidNotice, TopicExpireNotice, TopicExpireNoticeVariant:
	default:
		return Notice{}, false
	}
	if json.Unmarshal(payload, &said) != nil {
		return Notice{}, false
	}
	if topic == TopicInvalidNotice {
		return Notice{Invalid: true, Code: said.Code, Type: said.Type}, true
	}
	return Notice{Type: said.Type, ExpiresAt: time.UnixMilli(max(said.Expires, said.Variant))}, true
}
