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

// Credentials is what an MQTT client needs to connect. Printing and encoding them leaves the secrets out.
type Credentials struct {
	Username string
	Password string `json:"-"`
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
	Tokens      []Token `json:"-"`
}

// ErrChanging is in the chain of Load's error when the folder was replaced each time Load read it.
var ErrChanging = errors.New("the folder changed while it was read")

// ErrWithdrawn is in the chain of Load's error while the Secret holds no tokens on purpose: the client is held, or is
// not allowed what its grant asks for. Do not connect; wait for the files to change.
var ErrWithdrawn = errors.New("the tokens were taken back")

// dataLink is the symbolic link that the kubelet swaps; the files in the mounted folder point through it.
const dataLink = "..data"

// noTokens is what KeyTokens holds then.
const noTokens = "[]"

// attempts is how often Load starts again. The kubelet swaps at most once in many seconds, so the second succeeds.
const attempts = 3

// Load reads the folder that a token Secret of format Files is mounted at, or the one that it has in a projected volume. All
// files come from the same version of the Secret, even while the kubelet replaces them: Load reads where one symbolic link
// points to, and starts again if the link points elsewhere afterwards, because the files may have been deleted in between.
// Load again before every connect.
func Load(dir string) (Credentials, error) {
	for range attempts {
		source, err := resolve(dir)
		if err != nil {
			return Credentials{}, err
		}
		credentials, readErr := read(source)
		after, err := resolve(dir)
		if err != nil {
			return Credentials{}, err
		}
		if after == source {
			return credentials, readErr
		}
	}
	return Credentials{}, fmt.Errorf("reading credentials in %q: %w", dir, ErrChanging)
}

// resolve finds the folder that holds the files: what ..data points to, or dir itself when it is a plain folder. A folder
// within a projected volume is a link through the volume's ..data.
func resolve(dir string) (string, error) {
	source, err := os.Readlink(filepath.Join(dir, dataLink))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if source, err = filepath.EvalSymlinks(dir); err != nil {
			return "", fmt.Errorf("opening credentials: %w", err)
		}
		return source, nil
	case err != nil:
		return "", fmt.Errorf("opening credentials: %w", err)
	case filepath.IsAbs(source):
		return source, nil
	}
	return filepath.Join(dir, source), nil
}

func read(dir string) (Credentials, error) {
	r := reader{dir: dir}
	if r.optional(KeyTokens) == noTokens {
		return Credentials{}, fmt.Errorf("reading credentials in %q: %w", dir, ErrWithdrawn)
	}
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
