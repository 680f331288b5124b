package paho_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/mqtt-token-operator/mqtt-token-operator/pkg/mqttcred"
	"github.com/mqtt-token-operator/mqtt-token-operator/pkg/mqttcred/paho"
	"github.com/mqtt-token-operator/mqtt-token-operator/test/clienttest"
	"github.com/mqtt-token-operator/mqtt-token-operator/test/stage"
)

func TestClient(t *testing.T) {
	clienttest.Test(t, clienttest.Adapter[*paho.Client]{
		New: func(source *mqttcred.Source, o clienttest.Options) *paho.Client {
			asked := paho.Options{Name: o.Name, OnEvent: o.OnEvent}
			if o.OnMessage != nil {
				asked.OnConnect = func(ctx context.Context, client mqtt.Client) error {
					return paho.Subscribe(ctx, client, stage.Topic, 1, func(_ mqtt.Client, m mqtt.Message) { o.OnMessage(string(m.Payload())) })
				}
			}
			return paho.New(source, asked)
		},
		Publish: func(ctx context.Context, client *paho.Client, message string) error {
			return client.Publish(ctx, stage.Topic, 1, false, message)
		},
	})
}

func TestAProviderReadsTheFilesEachTime(t *testing.T) {
	s := stage.New(t, time.Hour)
	source, err := mqttcred.Open(s.Folder)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = source.Close() }()
	provide := paho.CredentialsProvider(source)
	user, first := provide()
	if user != "Token|stage-key|"+stage.InstanceID || !strings.HasPrefix(first, "RW|") {
		t.Errorf("user %q, a password of %d characters", user, len(first))
	}
	used, err := source.Current()
	if err != nil {
		t.Fatal(err)
	}
	s.Issue(time.Hour)
	if _, err := source.Newer(t.Context(), used); err != nil {
		t.Fatal(err)
	}
	if _, second := provide(); second == first {
		t.Error("the password is the old one")
	}
	s.Withdraw()
	for {
		if _, err := source.Current(); err != nil {
			break
		}
	}
	if user, password := provide(); user != "" || password != "" {
		t.Error("it provides tokens that were taken back")
	}
}

// A handler for everything must not keep notices from the client: with it, the library calls no default handler.
func TestNoticesComeBesideAHandlerForEverything(t *testing.T) {
	s := stage.New(t, time.Hour)
	source, err := mqttcred.Open(s.Folder)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = source.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	var ended error
	client := paho.New(source, paho.Options{
		OnConnect: func(_ context.Context, client mqtt.Client) error {
			client.AddRoute("#", func(mqtt.Client, mqtt.Message) {})
			return nil
		},
		OnEvent: func(e mqttcred.Event) {
			if e.Kind == mqttcred.Connected {
				s.Revoke()
			}
			if e.Kind == mqttcred.Disconnected {
				ended = e.Err
				cancel()
			}
		},
	})
	if err := client.Run(ctx); !errors.Is(err, context.Canceled) || !errors.Is(ended, mqttcred.ErrRefused) {
		t.Errorf("%v, after %v", err, ended)
	}
}
