package credsecret

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
	"github.com/mqtt-token-operator/mqtt-token-operator/pkg/mqttcred"
)

// layoutVersion changes when Render gives the same layout another form, so that Secrets of an older manager are
// rewritten (which applies for nothing).
const layoutVersion = 1

// webSocketPath is what the vendor's JavaScript demo connects to by its library's default; the documents name none.
const webSocketPath = "/mqtt"

// MaxSize is the most that all values may take together, in bytes; a Secret holds 1 MiB including metadata.
const MaxSize = 900 << 10

// longestToken is longer than any token the service was seen to issue.
const longestToken = 1 << 10

// Layout says how a token Secret looks, tokens apart.
type Layout struct {
	Namespace   string
	Name        string
	Labels      map[string]string
	Annotations map[string]string
	Env         bool // environment variables instead of files
	Templates   map[string]string

	GrantName string
	GrantUID  string
	ClusterID string

	InstanceID  string
	InstanceKey string // namespace/name of the MqttInstance
	InstanceUID string
	KeyID       string
	ClientID    string // empty for a grant without a device id
	GroupID     string
	DeviceID    string

	Broker Broker

	// RenewBefore is here because the moment of renewal is among the values.
	RenewBefore time.Duration
}

// Broker says where clients connect.
type Broker struct {
	Host           string
	TLSPort        int32
	WSSPort        int32
	TCPPort        int32
	CA             string
	AllowPlaintext bool
}

// ID identifies the layout: equal layouts, equal id.
func (l Layout) ID() string {
	text, err := json.Marshal(l) // maps are sorted; nothing in a Layout can fail
	if err != nil {
		panic(err)
	}
	sum := sha256.Sum256(text)
	return "v" + strconv.Itoa(layoutVersion) + "-" + hex.EncodeToString(sum[:12])
}

// Client identifies whom tokens are for: tokens for another client or instance do not fit.
func (l Layout) Client() string {
	client := l.ClientID
	if client == "" {
		client = l.GroupID
	}
	return l.InstanceID + "/" + client
}

// Render returns the Secret that carries the record. Of the facts it takes generation, revision and reissue; it fills
// in the others. Without tokens the Secret keeps what is no secret: where to connect, and as whom. It fails on a template that does not render, on labels, annotations and sizes that no Secret can have,
// and on a record that ReadRecord would refuse.
func (l Layout) Render(record Record, facts Facts, renewAt time.Time) (*corev1.Secret, error) {
	if err := record.check(); err != nil {
		return nil, err
	}
	data, err := l.data(record, renewAt)
	if err != nil {
		return nil, err
	}
	facts.Version = factsVersion
	facts.Scope = token.ScopeID(record.Scopes())
	facts.Client = l.Client()
	facts.Instance, facts.InstanceUID = l.InstanceKey, l.InstanceUID
	facts.KeyID = l.KeyID
	facts.Rendering = l.ID()
	facts.Issued = record.Issued().UTC()
	facts.Tokens, facts.Retired = record.Describe(l.GrantUID)
	text, err := facts.Encode()
	if err != nil {
		return nil, err
	}
	annotations := map[string]string{}
	maps.Copy(annotations, l.Annotations)
	annotations[FactsAnnotation] = text
	annotations[GrantUIDAnnotation] = l.GrantUID
	annotations[ClusterIDAnnotation] = l.ClusterID
	labels := map[string]string{}
	maps.Copy(labels, l.Labels)
	labels[GrantLabel] = l.GrantName
	if err := checkMetadata(labels, annotations); err != nil {
		return nil, err
	}
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: l.Namespace, Name: l.Name, Labels: labels, Annotations: annotations},
		Type:       Type,
		Data:       data,
	}, nil
}

// Check reports whether Render will succeed with tokens of these scopes. It takes long texts in place of the tokens, so
// that a template that fails on them does so before any token is applied for.
func (l Layout) Check(scopes []token.Scope, now time.Time) error {
	_, err := l.Render(placeholder(scopes, now), Facts{}, now)
	return err
}

func placeholder(scopes []token.Scope, now time.Time) Record {
	var record Record
	for _, scope := range scopes {
		value := token.NewValue(strings.Repeat("x", longestToken))
		record.Tokens = append(record.Tokens, Issued{Scope: scope, Value: value, Issued: now, Expires: now.Add(time.Hour)})
	}
	return record
}

// Keys lists every data key that the layout writes, with tokens or without.
func (l Layout) Keys(withTokens bool) (map[string]bool, error) {
	var record Record
	if withTokens {
		record = placeholder([]token.Scope{{Type: token.Publish}}, time.Time{})
	}
	data, err := l.data(record, time.Time{})
	if err != nil {
		return nil, err
	}
	keys := map[string]bool{}
	for key := range data {
		keys[key] = true
	}
	return keys, nil
}

func (l Layout) data(record Record, renewAt time.Time) (map[string][]byte, error) {
	fields := l.fields(record, renewAt)
	var values map[string]string
	var err error
	if l.Env {
		values, err = l.envValues(fields, record)
	} else {
		values, err = l.fileValues(fields, record)
	}
	if err != nil {
		return nil, err
	}
	if len(record.Tokens) > 0 {
		err = l.addTemplates(values, fields)
	} else {
		withdraw(values)
	}
	if err != nil {
		return nil, err
	}
	data, size := map[string][]byte{}, 0
	for key, value := range values {
		data[key] = []byte(value)
		size += len(key) + len(value)
	}
	if size > MaxSize {
		return nil, fmt.Errorf("the Secret would hold %d bytes, more than %d", size, MaxSize)
	}
	return data, nil
}

// withdraw takes out what only tokens give a meaning, so that no client takes the rest for a way in.
func withdraw(values map[string]string) {
	for _, key := range []string{
		mqttcred.KeyPassword, mqttcred.KeyExpiresAt, mqttcred.KeyRenewAt,
		mqttcred.EnvPassword, mqttcred.EnvExpiresAt, mqttcred.EnvRenewAt,
	} {
		delete(values, key)
	}
}

// fields are the values under the names that templates use.
func (l Layout) fields(record Record, renewAt time.Time) Fields {
	f := Fields{
		Username: Username(l.KeyID, l.InstanceID),
		Password: password(record.Tokens),
		ClientID: l.ClientID, GroupID: l.GroupID, DeviceID: l.DeviceID,
		Host: l.Broker.Host, Port: port(l.Broker.TLSPort),
		URL:       "mqtts://" + net.JoinHostPort(l.Broker.Host, port(l.Broker.TLSPort)),
		WSSURL:    "wss://" + net.JoinHostPort(l.Broker.Host, port(l.Broker.WSSPort)) + webSocketPath,
		ExpiresAt: moment(record.Expires()),
		RenewAt:   moment(renewAt),
	}
	if l.Broker.AllowPlaintext {
		f.TCPURL = "mqtt://" + net.JoinHostPort(l.Broker.Host, port(l.Broker.TCPPort))
	}
	return f
}

func (l Layout) fileValues(f Fields, record Record) (map[string]string, error) {
	tokens, permissions, retired := documents(record)
	values := map[string]string{
		mqttcred.KeyUsername: f.Username, mqttcred.KeyPassword: f.Password,
		mqttcred.KeyHost: f.Host, mqttcred.KeyPort: f.Port, mqttcred.KeyURL: f.URL, mqttcred.KeyWSSURL: f.WSSURL,
		mqttcred.KeyExpiresAt: f.ExpiresAt, mqttcred.KeyRenewAt: f.RenewAt,
	}
	for key, document := range map[string]any{
		mqttcred.KeyTokens: tokens, mqttcred.KeyPermissions: permissions, mqttcred.KeyRetired: retired,
	} {
		text, err := json.Marshal(document)
		if err != nil {
			return nil, fmt.Errorf("writing key %s: %w", key, err)
		}
		values[key] = string(text)
	}
	addPresent(values, map[string]string{
		mqttcred.KeyClientID: l.ClientID, mqttcred.KeyTCPURL: f.TCPURL, mqttcred.KeyCA: withoutNewline(l.Broker.CA),
	})
	if l.ClientID == "" {
		values[mqttcred.KeyGroupID] = l.GroupID
	}
	return values, nil
}

func (l Layout) envValues(f Fields, record Record) (map[string]string, error) {
	text, err := encodeEnvRecord(record)
	if err != nil {
		return nil, fmt.Errorf("writing key %s: %w", mqttcred.EnvRecord, err)
	}
	values := map[string]string{
		mqttcred.EnvUsername: f.Username, mqttcred.EnvPassword: f.Password,
		mqttcred.EnvHost: f.Host, mqttcred.EnvPort: f.Port, mqttcred.EnvURL: f.URL, mqttcred.EnvWSSURL: f.WSSURL,
		mqttcred.EnvExpiresAt: f.ExpiresAt, mqttcred.EnvRenewAt: f.RenewAt,
		mqttcred.EnvRecord: text,
	}
	addPresent(values, map[string]string{
		mqttcred.EnvClientID: l.ClientID, mqttcred.EnvTCPURL: f.TCPURL, mqttcred.EnvCA: withoutNewline(l.Broker.CA),
	})
	if l.ClientID == "" {
		values[mqttcred.EnvGroupID] = l.GroupID
	}
	return values, nil
}

func addPresent(values, more map[string]string) {
	for key, value := range more {
		if value != "" {
			values[key] = value
		}
	}
}

// withoutNewline keeps the promise that no value ends in one; PEM needs none after its last line.
func withoutNewline(pem string) string { return strings.TrimRight(pem, "\r\n") }

func port(p int32) string { return strconv.Itoa(int(p)) }

func moment(t time.Time) string { return t.UTC().Format(time.RFC3339) }
