package broker

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
)

const (
	maxClientIDLength = 64
	minGroupIDLength  = 7
	clientIDSeparator = "@@@"
)

// identity is what a username says.
type identity struct {
	keyID      string
	instanceID string
}

// presented is a token as a client presents it: the type is the client's claim.
type presented struct {
	kind token.Type
	text token.Value
}

// parseUsername reads Token|<AccessKeyId>|<InstanceId>.
func parseUsername(username string) (identity, error) {
	parts := strings.Split(username, "|")
	if len(parts) != 3 || parts[0] != "Token" || parts[1] == "" || parts[2] == "" {
		return identity{}, errors.New("a username has the form Token|<AccessKeyId>|<InstanceId>")
	}
	return identity{keyID: parts[1], instanceID: parts[2]}, nil
}

// parsePassword reads pairs <type>|<token>, joined by |, each type at most once.
func parsePassword(password string) ([]presented, error) {
	parts := strings.Split(password, "|")
	if len(parts)%2 != 0 {
		return nil, errors.New("a password consists of pairs <type>|<token>")
	}
	var tokens []presented
	seen := map[token.Type]bool{}
	for i := 0; i < len(parts); i += 2 {
		kind, err := parseType(parts[i])
		if err != nil {
			return nil, err
		}
		if seen[kind] || parts[i+1] == "" {
			return nil, fmt.Errorf("a password holds one token of type %q at most, and never an empty one", parts[i])
		}
		seen[kind] = true
		tokens = append(tokens, presented{kind: kind, text: token.NewValue(parts[i+1])})
	}
	return tokens, nil
}

// parseUpload reads the payload of a token upload.
func parseUpload(payload []byte) (presented, error) {
	var upload struct {
		Token string `json:"token"`
		Type  string `json:"type"`
	}
	if err := json.Unmarshal(payload, &upload); err != nil {
		return presented{}, errors.New("an upload is a JSON object")
	}
	kind, err := parseType(upload.Type)
	if err != nil {
		return presented{}, err
	}
	if upload.Token == "" {
		return presented{}, errors.New("an upload holds a token")
	}
	return presented{kind: kind, text: token.NewValue(upload.Token)}, nil
}

// parseType reads a type as clients spell it. The error does not quote the text: it may be a token out of place.
func parseType(letters string) (token.Type, error) {
	switch letters {
	case "R":
		return token.Subscribe, nil
	case "W":
		return token.Publish, nil
	case "RW":
		return token.PublishSubscribe, nil
	default:
		return "", errors.New("a type is R, W or RW")
	}
}

// lettersOf is how clients spell a type.
func lettersOf(kind token.Type) string {
	switch kind {
	case token.Subscribe:
		return "R"
	case token.Publish:
		return "W"
	default:
		return "RW"
	}
}

// checkClientID accepts <GroupID>@@@<DeviceID>.
func checkClientID(id string) error {
	group, device, found := strings.Cut(id, clientIDSeparator)
	switch {
	case len(id) > maxClientIDLength:
		return fmt.Errorf("client id %q is longer than %d characters", id, maxClientIDLength)
	case !found || device == "":
		return fmt.Errorf("client id %q is not of the form <GroupID>%s<DeviceID>", id, clientIDSeparator)
	case len(group) < minGroupIDLength || !strings.HasPrefix(group, "GID_") && !strings.HasPrefix(group, "GID-"):
		return fmt.Errorf("group id %q does not begin with GID_ or GID-, or is shorter than %d characters", group, minGroupIDLength)
	case strings.ContainsFunc(group+device, isNotNameRune):
		return fmt.Errorf("client id %q holds more than letters, digits, - and _", id)
	}
	return nil
}

func isNotNameRune(r rune) bool {
	isName := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_'
	return !isName
}
