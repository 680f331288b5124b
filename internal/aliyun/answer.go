package aliyun

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
)

// answer holds the members of a successful answer as they came. Reading them one by one, with their exact names and
// types, tells "false" from "missing": the SDK's own structs do not.
type answer struct {
	members   map[string]json.RawMessage
	requestID string
}

// readAnswer sorts what came back into an answer to a call that succeeded and an error.
func readAnswer(c *call, response *http.Response, body []byte) (answer, error) {
	a := parseAnswer(body)
	a.requestID = c.cleanRequestID(a.text("RequestId"))
	if response.StatusCode < http.StatusOK || response.StatusCode >= http.StatusMultipleChoices {
		return answer{}, c.refusal(response, a)
	}
	if a.text("RequestId") == "" {
		return answer{}, c.unreadable(response.StatusCode, a, "it names no request id")
	}
	return a, nil
}

// parseAnswer yields no members for a body that is not one JSON object in proper UTF-8: a decoder that mends broken
// text would mend tokens.
func parseAnswer(body []byte) answer {
	a := answer{}
	if len(body) > maxAnswer || !utf8.Valid(body) || json.Unmarshal(body, &a.members) != nil {
		return answer{}
	}
	return a
}

// text returns a member that is a string, and nothing for one that is not.
func (a answer) text(name string) string {
	var text *string
	if json.Unmarshal(a.members[name], &text) != nil || text == nil {
		return ""
	}
	return *text
}

func (a answer) token(c *call) (token.Value, error) {
	text := a.text("Token")
	if strings.TrimSpace(text) == "" {
		return token.Value{}, c.unreadable(http.StatusOK, a, "it holds no token")
	}
	return token.NewValue(text), nil
}

func (a answer) tokenStatus(c *call) (bool, error) {
	var valid *bool
	if json.Unmarshal(a.members["TokenStatus"], &valid) != nil || valid == nil {
		return false, c.unreadable(http.StatusOK, a, "it does not say whether the token is valid")
	}
	return *valid, nil
}

func (c *call) unreadable(status int, a answer, why string) error {
	fault := c.fault(token.KindUnavailable, codeUnreadableAnswer, fmt.Errorf("answer with HTTP status %d: %s", status, why))
	fault.RequestID = a.requestID
	return fault
}
