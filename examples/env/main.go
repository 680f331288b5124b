// Command env publishes a number every second, with tokens from its environment. That never changes while it runs, so it
// ends when the broker does not take them any more, and whoever starts it again gives it newer ones: in a pod the kubelet,
// which waits longer each time.
//
//	MQTT_TOPIC  where to publish; the other variables are those of a Secret of format Env
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/mqtt-token-operator/mqtt-token-operator/pkg/mqttcred"
)

// patience is how long the broker may take to answer.
const patience = 10 * time.Second

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	if os.Getenv(mqttcred.EnvPassword) == "" {
		return errors.New("waiting: the tokens were taken back")
	}
	asked, err := options()
	if err != nil {
		return err
	}
	lost := make(chan error, 1)
	client := mqtt.NewClient(asked.SetConnectionLostHandler(func(_ mqtt.Client, err error) { lost <- err }))
	if err := answer(client.Connect()); err != nil {
		return fmt.Errorf("not connected: %w", err)
	}
	defer client.Disconnect(0)
	fmt.Println("connected with tokens until", os.Getenv(mqttcred.EnvExpiresAt))
	for n := 0; ; n++ {
		if err := answer(client.Publish(os.Getenv("MQTT_TOPIC"), 1, false, strconv.Itoa(n))); err != nil {
			return fmt.Errorf("not published: %w", err)
		}
		fmt.Println("published", n)
		select {
		case <-time.After(time.Second):
		case err := <-lost:
			return fmt.Errorf("not connected any more: %w", err)
		case <-ctx.Done():
			return nil
		}
	}
}

func options() (*mqtt.ClientOptions, error) {
	var broker mqttcred.Credentials
	if certificate := os.Getenv(mqttcred.EnvCA); certificate != "" {
		broker.CA = []byte(certificate)
	}
	trust, err := broker.TLS()
	if err != nil {
		return nil, err
	}
	return mqtt.NewClientOptions().AddBroker(os.Getenv(mqttcred.EnvURL)).SetClientID(os.Getenv(mqttcred.EnvClientID)).
		SetUsername(os.Getenv(mqttcred.EnvUsername)).SetPassword(os.Getenv(mqttcred.EnvPassword)).SetTLSConfig(trust).
		SetProtocolVersion(4).SetConnectTimeout(patience).SetAutoReconnect(false), nil
}

func answer(token mqtt.Token) error {
	if !token.WaitTimeout(patience) {
		return errors.New("the broker does not answer")
	}
	return token.Error()
}
