package pahov5_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"

	"github.com/mqtt-token-operator/mqtt-token-operator/pkg/mqttcred"
	"github.com/mqtt-token-operator/mqtt-token-operator/pkg/mqttcred/pahov5"
	"github.com/mqtt-token-operator/mqtt-token-operator/test/clienttest"
	"github.com/mqtt-token-operator/mqtt-token-operator/test/stage"
)

func TestClient(t *testing.T) {
	clienttest.Test(t, clienttest.Adapter[*pahov5.Client]{
		New: func(source *mqttcred.Source, o clienttest.Options) *pahov5.Client {
			asked := pahov5.Options{Name: o.Name, OnEvent: o.OnEvent}
			if o.OnMessage != nil {
				asked.OnMessage = func(m *paho.Publish) { o.OnMessage(string(m.Payload)) }
				asked.OnConnect = func(ctx context.Context, client *paho.Client) error {
					_, err := client.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: stage.Topic, QoS: 1}}})
					return err
				}
			}
			return pahov5.New(source, asked)
		},
		Publish: func(ctx context.Context, client *pahov5.Client, message string) error {
			return client.Publish(ctx, &paho.Publish{Topic: stage.Topic, QoS: 1, Payload: []byte(message)})
		},
	})
}

func TestABuilderReadsTheFilesEachTime(t *testing.T) {
	s := stage.New(t, time.Hour)
	source, err := mqttcred.Open(s.Folder)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = source.Close() }()
	build := pahov5.ConnectPacketBuilder(source, "pod-1")
	packet, err := build(&paho.Connect{KeepAlive: 7}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if packet.ClientID != stage.ClientID || packet.KeepAlive != 7 || !packet.UsernameFlag || !strings.HasPrefix(string(packet.Password), "RW|") {
		t.Errorf("client id %q, keep alive %d, a password of %d characters", packet.ClientID, packet.KeepAlive, len(packet.Password))
	}
	s.Withdraw()
	for {
		if _, err := source.Current(); err != nil {
			break
		}
	}
	if _, err := build(&paho.Connect{}, nil); err == nil {
		t.Error("it connects while the tokens are taken back")
	}
}
