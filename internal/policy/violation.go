package policy

import (
	"fmt"
	"strings"
	"time"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/topic"
)

// Reason says which part of a request is not allowed.
type Reason string

// The reasons, from the most to the least fundamental.
const (
	// NamespaceNotAllowed means that no rule applies to the namespace.
	NamespaceNotAllowed Reason = "NamespaceNotAllowed"
	// ClientNotAllowed means that no rule that applies is for this group and device.
	ClientNotAllowed Reason = "ClientNotAllowed"
	// TopicNotAllowed means that an action on a topic is not covered.
	TopicNotAllowed Reason = "TopicNotAllowed"
	// ValidityTooLong means that the rules that cover the topics want a shorter validity.
	ValidityTooLong Reason = "ValidityTooLong"
)

// Violation is one thing that the rules do not allow.
type Violation struct {
	Reason Reason
	// Message says what is not allowed and what to do, in terms of the request alone: it gives away nothing of what the
	// rules allow to others. The same request and rules yield the same text.
	Message string
}

func namespaceNotAllowed(q Request) Violation {
	return Violation{NamespaceNotAllowed, fmt.Sprintf(
		"no access rule of the instance applies to namespace %q: ask the platform team for one", q.Namespace)}
}

func clientNotAllowed(q Request) Violation {
	if q.DeviceID == "" {
		return Violation{ClientNotAllowed, fmt.Sprintf(
			"no access rule allows a grant for every client of group %q: set a device id, or ask the platform team for a rule with allowGroupGrants",
			q.GroupID)}
	}
	return Violation{ClientNotAllowed, fmt.Sprintf(
		"no access rule allows group %q with device %q: correct the client, or ask the platform team for a rule", q.GroupID, q.DeviceID)}
}

func topicNotAllowed(filter topic.Filter, denied []token.Action) Violation {
	if len(denied) == 0 {
		return Violation{TopicNotAllowed, fmt.Sprintf("topic %q asks for no action: name Publish, Subscribe or both", filter)}
	}
	names := make([]string, 0, len(denied))
	for _, action := range denied {
		names = append(names, string(action))
	}
	return Violation{TopicNotAllowed, fmt.Sprintf(
		"no access rule allows this client to %s on %q: remove the topic or the action, or ask the platform team for a rule",
		strings.Join(names, " or "), filter)}
}

func validityTooLong(asked, limit time.Duration) Violation {
	return Violation{ValidityTooLong, fmt.Sprintf(
		"a validity of %s is longer than the %s that the access rules allow for these topics: shorten it", spell(asked), spell(limit))}
}

// spell writes a duration as people do: 24h, not 24h0m0s.
func spell(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
