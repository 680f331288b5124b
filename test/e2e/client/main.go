// Command client is the application of the end-to-end test: it publishes or listens with the tokens of a mounted Secret,
// and logs what happens.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/spf13/pflag"

	"github.com/mqtt-token-operator/mqtt-token-operator/pkg/mqttcred"
	"github.com/mqtt-token-operator/mqtt-token-operator/pkg/mqttcred/paho"
)

const atLeastOnce = 1

// options is the command line.
type options struct {
	folder    string
	publish   []string
	subscribe string
	every     time.Duration
}

func main() {
	var o options
	pflag.StringVar(&o.folder, "folder", "/etc/mqtt", "where the token Secret is mounted")
	pflag.StringSliceVar(&o.publish, "publish", nil, "topics to publish to, one after the other")
	pflag.StringVar(&o.subscribe, "subscribe", "", "topic filter to listen to")
	pflag.DurationVar(&o.every, "every", time.Second, "how often to publish")
	pflag.Parse()
	log.SetFlags(0)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, o)
	stop()
	if err != nil && ctx.Err() == nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, o options) error {
	source, err := mqttcred.Open(o.folder)
	if err != nil {
		return err
	}
	name, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("finding a name: %w", err)
	}
	client := paho.New(source, paho.Options{
		Name:    name,
		OnEvent: func(e mqttcred.Event) { log.Print(e) },
		OnConnect: func(ctx context.Context, client mqtt.Client) error {
			if o.subscribe == "" {
				return nil
			}
			return paho.Subscribe(ctx, client, o.subscribe, atLeastOnce, func(_ mqtt.Client, message mqtt.Message) {
				log.Printf("received %s from %s", message.Payload(), message.Topic())
			})
		},
	})
	go watchFiles(ctx, source)
	go publishAll(ctx, client, o)
	return client.Run(ctx)
}

// watchFiles logs when the files change, whether or not that is of use.
func watchFiles(ctx context.Context, source *mqttcred.Source) {
	for current := (mqttcred.Credentials{}); ; {
		newer, err := source.Newer(ctx, current)
		if err != nil {
			return
		}
		log.Printf("files: %s", newer)
		current = newer
	}
}

func publishAll(ctx context.Context, client *paho.Client, o options) {
	if len(o.publish) == 0 {
		return
	}
	for n := 0; ; n++ {
		topic := o.publish[n%len(o.publish)]
		if err := client.Publish(ctx, topic, atLeastOnce, false, strconv.Itoa(n)); err != nil {
			log.Printf("message %d is lost: %v", n, err)
		} else {
			log.Printf("published %d to %s", n, topic)
		}
		select {
		case <-time.After(o.every):
		case <-ctx.Done():
			return
		}
	}
}
