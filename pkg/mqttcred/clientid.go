package mqttcred

import (
	"crypto/sha256"
	"encoding/hex"
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
// [A-Za-z0-9_-] become '-'; if the client id would be longer than MaxClientID, the name is cut and a hash of all of it
// appended, itself cut if the group id leaves no more room. A group id of more than 60 characters leaves none: no client id
// of such a group is short enough.
func (c Credentials) ClientIDFor(name string) string {
	if c.ClientID != "" {
		return c.ClientID
	}
	device := strings.Map(func(r rune) rune {
		if r == '_' || r == '-' || '0' <= r && r <= '9' || 'A' <= r && r <= 'Z' || 'a' <= r && r <= 'z' {
			return r
		}
		return '-'
	}, name)
	room := max(1, MaxClientID-len(c.GroupID)-len(separator))
	if len(device) > room {
		sum := sha256.Sum256([]byte(name))
		tail := "-" + hex.EncodeToString(sum[:])[:digest]
		if room < len(tail) {
			tail = tail[1 : 1+room]
		}
		device = device[:room-len(tail)] + tail
	}
	return c.GroupID + separator + device
}
