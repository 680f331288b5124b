package mqttcred

import (
	"fmt"
	"strings"
	"unicode"
)

// EventKind says what happened.
type EventKind int

const (
	// Waiting says that the folder holds nothing to connect with; Err says why.
	Waiting EventKind = iota
	// Connected says that there is a new connection, made with Credentials.
	Connected
	// Uploaded says that the connection goes on with newer tokens.
	Uploaded
	// Noticed says that the broker has said something about a token: Notice.
	Noticed
	// Disconnected says that a connection has ended, or could not be made; Err says why.
	Disconnected
)

// Event is something that happened to a client. It holds no secret that printing would show.
type Event struct {
	Kind        EventKind
	Credentials Credentials
	Notice      Notice
	Err         error
}

// String describes the event in a line, whatever the broker has put into its own words.
func (e Event) String() string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, e.text())
}

func (e Event) text() string {
	switch e.Kind {
	case Waiting:
		return fmt.Sprintf("waiting: %v", e.Err)
	case Connected:
		return fmt.Sprintf("connected with %s", e.Credentials)
	case Uploaded:
		return "uploaded new tokens over the open connection"
	case Noticed:
		return "the broker says: " + e.Notice.String()
	case Disconnected:
		return fmt.Sprintf("not connected: %v", e.Err)
	}
	return fmt.Sprintf("event %d", e.Kind)
}
