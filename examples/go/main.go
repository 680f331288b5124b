// Command go publishes a number every second, with the tokens of a mounted Secret. What it takes to stay connected is in
// pkg/mqttcred.
//
//	MQTT_CREDENTIALS_DIR  where the token Secret is mounted (default /etc/mqtt)
//	MQTT_TOPIC            where to publish
//	POD_NAME              tells the clients of a group apart
package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/mqtt-token-operator/mqtt-token-operator/pkg/mqttcred"
	"github.com/mqtt-token-operator/mqtt-token-operator/pkg/mqttcred/paho"
)

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
	source, err := mqttcred.Open(cmp.Or(os.Getenv("MQTT_CREDENTIALS_DIR"), "/etc/mqtt"))
	if err != nil {
		return err
	}
	client := paho.New(source, paho.Options{
		Name:    os.Getenv("POD_NAME"),
		OnEvent: func(e mqttcred.Event) { fmt.Println(e) },
	})
	go publish(ctx, client, os.Getenv("MQTT_TOPIC"))
	if err := client.Run(ctx); ctx.Err() == nil {
		return err
	}
	return source.Close()
}

func publish(ctx context.Context, client *paho.Client, topic string) {
	for n := 0; ctx.Err() == nil; {
		if err := client.Publish(ctx, topic, 1, false, strconv.Itoa(n)); err != nil {
			fmt.Println("not published:", err)
		} else {
			fmt.Println("published", n)
			n++
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
	}
}
