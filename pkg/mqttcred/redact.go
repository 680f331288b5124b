package mqttcred

import (
	"fmt"
	"time"
)

// String describes the credentials without the secrets.
func (c Credentials) String() string {
	client := c.ClientID
	if client == "" {
		client = c.GroupID
	}
	return fmt.Sprintf("credentials of %s at %s until %s", client, c.Host, c.ExpiresAt.Format(time.RFC3339))
}

// Format prints the description for every verb: %#v and %x would print the fields.
func (c Credentials) Format(state fmt.State, _ rune) { state.Write([]byte(c.String())) }

// String describes the token without its text.
func (t Token) String() string {
	return fmt.Sprintf("token of type %s until %s", t.Type, t.ExpiresAt.Format(time.RFC3339))
}

// Format prints the description for every verb: %#v and %x would print the fields. JSON holds the text, because it is
// what a client uploads.
func (t Token) Format(state fmt.State, _ rune) { state.Write([]byte(t.String())) }

// String names the folder and holds nothing of what is in it.
func (s *Source) String() string { return fmt.Sprintf("source of credentials in %q", s.dir) }

// Format prints the name for every verb: %v and %#v would print the fields, whose own formatting fmt does not ask for.
func (s *Source) Format(state fmt.State, _ rune) { state.Write([]byte(s.String())) }
