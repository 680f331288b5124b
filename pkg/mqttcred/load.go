package mqttcred

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Credentials is what an MQTT client needs to connect.
type Credentials struct {
	Username string
	Password string
	// ClientID is empty for a grant without a device id; compose <GroupID>@@@<device id> then.
	ClientID string
	GroupID  string
	Host     string
	Port     string
	// URL is for MQTT over TLS, WSSURL for MQTT over WebSocket and TLS.
	URL    string
	WSSURL string
	// CA holds the PEM certificates to trust; nil means the system's.
	CA          []byte
	ExpiresAt   time.Time
	RenewAt     time.Time
	Permissions []Permission
	Tokens      []Token
}

// Load reads the folder that a token Secret of format Files is mounted at. All files come from the same version of the
// Secret, even while the kubelet replaces them: it swaps one symbolic link, and Load follows that link once.
// Read it again before every connect.
func Load(dir string) (Credentials, error) {
	source, err := filepath.EvalSymlinks(filepath.Join(dir, "..data"))
	if errors.Is(err, fs.ErrNotExist) {
		source, err = dir, nil // a plain folder
	}
	if err != nil {
		return Credentials{}, fmt.Errorf("opening credentials: %w", err)
	}
	r := reader{dir: source}
	c := Credentials{
		Username: r.text(KeyUsername), Password: r.text(KeyPassword),
		ClientID: r.optional(KeyClientID), GroupID: r.optional(KeyGroupID),
		Host: r.text(KeyHost), Port: r.text(KeyPort), URL: r.text(KeyURL), WSSURL: r.text(KeyWSSURL),
		ExpiresAt: r.moment(KeyExpiresAt), RenewAt: r.moment(KeyRenewAt),
	}
	if ca := r.optional(KeyCA); ca != "" {
		c.CA = []byte(ca)
	}
	r.document(KeyPermissions, &c.Permissions)
	r.document(KeyTokens, &c.Tokens)
	if r.err != nil {
		return Credentials{}, r.err
	}
	return c, nil
}

// reader reads one file after the other and keeps the first error. Its errors name the file and never its content.
type reader struct {
	dir string
	err error
}

func (r *reader) text(key string) string {
	data, err := os.ReadFile(filepath.Join(r.dir, key))
	if err != nil && r.err == nil {
		r.err = fmt.Errorf("reading credentials: %w", err)
	}
	return string(data)
}

func (r *reader) optional(key string) string {
	data, err := os.ReadFile(filepath.Join(r.dir, key))
	if err != nil && !errors.Is(err, fs.ErrNotExist) && r.err == nil {
		r.err = fmt.Errorf("reading credentials: %w", err)
	}
	return string(data)
}

func (r *reader) moment(key string) time.Time {
	text := r.text(key)
	if r.err != nil {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		r.err = fmt.Errorf("reading credentials: %s does not hold a time in RFC 3339", key)
	}
	return t
}

func (r *reader) document(key string, into any) {
	text := r.text(key)
	if r.err != nil {
		return
	}
	if json.Unmarshal([]byte(text), into) != nil {
		r.err = fmt.Errorf("reading credentials: %s does not hold the JSON it should", key)
	}
}
