package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/mqtt-token-operator/mqtt-token-operator/pkg/mqttcred"
)

const (
	secretFileMode   = 0o600
	secretFolderMode = 0o700
	// answerWithin is how long the broker may take for an answer.
	answerWithin = 10 * time.Second
	noticeWithin = time.Second
	atLeastOnce  = 1

	topicUpload  = "$SYS/uploadToken"
	topicInvalid = "$SYS/tokenInvalidNotice"
)

// volume is a mounted Secret: files that change all at once.
type volume struct {
	folder   string
	versions int
}

// lay writes a Secret's data as the kubelet does: into a new folder, to which one symbolic link is then moved.
func (v *volume) lay(data map[string][]byte) error {
	v.versions++
	version := "..version-" + strconv.Itoa(v.versions)
	if err := os.MkdirAll(filepath.Join(v.folder, version), secretFolderMode); err != nil {
		return fmt.Errorf("mounting the Secret: %w", err)
	}
	link := filepath.Join(v.folder, "..data")
	before, err := os.Readlink(link)
	if err != nil {
		before = "" // the first version
	}
	for key, value := range data {
		if err := os.WriteFile(filepath.Join(v.folder, version, key), value, secretFileMode); err != nil {
			return fmt.Errorf("mounting the Secret: %w", err)
		}
	}
	if err := errors.Join(os.Symlink(version, link+"_tmp"), os.Rename(link+"_tmp", link)); err != nil {
		return fmt.Errorf("mounting the Secret: %w", err)
	}
	for key := range data {
		err := os.Symlink(filepath.Join("..data", key), filepath.Join(v.folder, key))
		if err != nil && !errors.Is(err, os.ErrExist) {
			return fmt.Errorf("mounting the Secret: %w", err)
		}
	}
	if before == "" {
		return nil
	}
	return os.RemoveAll(filepath.Join(v.folder, before))
}

// notice is what the broker says before it cuts a client off.
type notice struct {
	Code int    `json:"code"`
	Type string `json:"type"`
}

// device is a connected MQTT client.
type device struct {
	mqtt     mqtt.Client
	received chan string
	notices  chan notice
	lost     chan struct{}
}

// connect connects with nothing but the files of a mounted Secret.
func connect(folder string) (*device, error) {
	files, err := mqttcred.Load(folder)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(files.CA) {
		return nil, fmt.Errorf("%s holds no certificate", mqttcred.KeyCA)
	}
	d := &device{received: make(chan string, 64), notices: make(chan notice, 8), lost: make(chan struct{})}
	options := mqtt.NewClientOptions().AddBroker(files.URL).SetClientID(files.ClientID).
		SetUsername(files.Username).SetPassword(files.Password).
		SetTLSConfig(&tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}).
		SetProtocolVersion(4).SetAutoReconnect(false).SetConnectTimeout(answerWithin).
		SetDefaultPublishHandler(d.take).
		SetConnectionLostHandler(func(mqtt.Client, error) { close(d.lost) })
	d.mqtt = mqtt.NewClient(options)
	if err := await(d.mqtt.Connect()); err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", files.URL, err)
	}
	return d, nil
}

// take receives a message or one of the broker's notices. What nobody waits for is dropped.
func (d *device) take(_ mqtt.Client, message mqtt.Message) {
	if message.Topic() != topicInvalid {
		select {
		case d.received <- string(message.Payload()):
		default:
		}
		return
	}
	var n notice
	if json.Unmarshal(message.Payload(), &n) == nil {
		select {
		case d.notices <- n:
		default:
		}
	}
}

func (d *device) publish(topic, message string) error {
	if err := await(d.mqtt.Publish(topic, atLeastOnce, false, message)); err != nil {
		return fmt.Errorf("publishing to %s: %w", topic, err)
	}
	return nil
}

func (d *device) subscribe(filter string) error {
	if err := await(d.mqtt.Subscribe(filter, atLeastOnce, nil)); err != nil {
		return fmt.Errorf("subscribing to %s: %w", filter, err)
	}
	return nil
}

// upload replaces the tokens of the connection by those in the files.
func (d *device) upload(folder string) error {
	files, err := mqttcred.Load(folder)
	if err != nil {
		return err
	}
	for _, t := range files.Tokens {
		payload, err := json.Marshal(map[string]string{"type": t.Type, "token": t.Token})
		if err != nil {
			return fmt.Errorf("writing an upload: %w", err)
		}
		if err := d.publish(topicUpload, string(payload)); err != nil {
			return err
		}
	}
	return nil
}

// expect waits for a message.
func (d *device) expect(ctx context.Context, message string) error {
	limit := time.NewTimer(answerWithin)
	defer limit.Stop()
	for {
		select {
		case got := <-d.received:
			if got == message {
				return nil
			}
		case <-limit.C:
			return fmt.Errorf("the message %q did not arrive within %s", message, answerWithin)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// cutOff waits for the broker to end the connection and returns what it said before; the zero notice if nothing.
func (d *device) cutOff(ctx context.Context) (notice, error) {
	limit := time.NewTimer(answerWithin)
	defer limit.Stop()
	select {
	case <-d.lost:
	case <-limit.C:
		return notice{}, fmt.Errorf("the client was not cut off within %s", answerWithin)
	case <-ctx.Done():
		return notice{}, context.Cause(ctx)
	}
	select { // the two come by different ways, so the notice may be the later one
	case n := <-d.notices:
		return n, nil
	case <-time.After(noticeWithin):
		return notice{}, nil
	}
}

// close disconnects; it may be called on no device at all.
func (d *device) close() {
	if d != nil {
		d.mqtt.Disconnect(0)
	}
}

func await(answer mqtt.Token) error {
	if !answer.WaitTimeout(answerWithin) {
		return fmt.Errorf("no answer within %s", answerWithin)
	}
	return answer.Error()
}
