package mqttcred

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// MaxClientID is how many characters a client id may have at most.
const MaxClientID = 64

const (
	separator = "@@@"
	// digest is how many characters of a hash stand for what was cut off.
	digest = 8
)

// ClientIDFor returns the client id to connect under: the grant's own or, for a grant without a device id, one composed of
// the group id and a name that no other client of the group has, such as the pod's. Characters of the name outside
// [A-Za-z0-9_-] become '-'; if the client id would be longer than MaxClientID, the name is cut, and '-' and the beginning of
// a hash of all of it stand at the end, or the last of these nine characters where the group id leaves room for fewer. It is
// an error to have no name, or a group id that leaves room for none.
func (c Credentials) ClientIDFor(name string) (string, error) {
	if c.ClientID != "" {
		return c.ClientID, nil
	}
	room := MaxClientID - len(c.GroupID) - len(separator)
	switch {
	case name == "":
		return "", fmt.Errorf("the grant is for all clients of group %q: this one needs a name of its own, such as its pod's", c.GroupID)
	case room < 1:
		return "", fmt.Errorf("group id %q leaves no room for a name: a client id has %d characters at most", c.GroupID, MaxClientID)
	}
	device := strings.Map(func(r rune) rune {
		if r == '_' || r == '-' || '0' <= r && r <= '9' || 'A' <= r && r <= 'Z' || 'a' <= r && r <= 'z' {
			return r
		}
		return '-'
	}, name)
	if len(device) > room {
		sum := sha256.Sum256([]byte(name))
		tail := "-" + hex.EncodeToString(sum[:])[:digest]
		tail = tail[max(0, len(tail)-room):]
		device = device[:room-len(tail)] + tail
	}
	return c.GroupID + separator + device, nil
}
