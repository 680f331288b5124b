package mqttcred

import (
	"encoding/json"
	"slices"
)

// Uploads returns what to publish to TopicUpload, one message after the other, so that a connection that was made with
// some credentials goes on with newer ones. It returns false if only a new connection can: another user, client or
// broker, or tokens of other types.
func Uploads(used, newer Credentials) ([][]byte, bool) {
	if used.Username != newer.Username || used.ClientID != newer.ClientID || used.GroupID != newer.GroupID || used.URL != newer.URL {
		return nil, false
	}
	if !slices.Equal(used.types(), newer.types()) {
		return nil, false
	}
	var messages [][]byte
	for _, t := range newer.Tokens {
		message, err := json.Marshal(map[string]string{"type": t.Type, "token": t.Token})
		if err != nil {
			return nil, false
		}
		messages = append(messages, message)
	}
	return messages, true
}

// types are those of the tokens, sorted.
func (c Credentials) types() []string {
	var types []string
	for _, t := range c.Tokens {
		types = append(types, t.Type)
	}
	return slices.Sorted(slices.Values(types))
}

// isSame reports whether the broker cannot tell two credentials apart.
func (c Credentials) isSame(other Credentials) bool {
	return c.Username == other.Username && c.Password == other.Password && c.ClientID == other.ClientID &&
		c.GroupID == other.GroupID && c.URL == other.URL
}
