package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"text/template"

	"github.com/spf13/pflag"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/simulator"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/simulator/broker"
)

// caFileMode lets other users' clients read the CA; it is public.
const caFileMode = 0o644

// run serves until the context ends.
func run(ctx context.Context, arguments []string, out io.Writer) error {
	var o options
	flags := pflag.NewFlagSet("simulator", pflag.ContinueOnError)
	flags.SetOutput(out)
	o.addFlags(flags)
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q: everything is a flag", flags.Arg(0))
	}
	wanted, err := o.simulator()
	if err != nil {
		return err
	}
	running, err := simulator.Start(context.WithoutCancel(ctx), wanted)
	if err != nil {
		return err
	}
	if err := o.announce(running, wanted, out); err != nil {
		return fmt.Errorf("%w (closing: %w)", err, running.Close())
	}
	<-ctx.Done()
	return running.Close()
}

// announce hands out the CA and says how to use the simulator.
func (o *options) announce(running *simulator.Simulator, wanted simulator.Options, out io.Writer) error {
	if o.writeCA != "" {
		if err := os.WriteFile(o.writeCA, running.CAPEM(), caFileMode); err != nil {
			return fmt.Errorf("writing the CA certificate: %w", err)
		}
	}
	if err := banner().Execute(out, o.facts(running, wanted)); err != nil {
		return fmt.Errorf("printing the banner: %w", err)
	}
	if o.printCA {
		if _, err := out.Write(running.CAPEM()); err != nil {
			return fmt.Errorf("printing the CA certificate: %w", err)
		}
	}
	return nil
}

// facts are what the banner shows.
type facts struct {
	API, Admin, TCP, TLS, WS, WSS       string
	Host, APIPort                       string
	TCPPort, TLSPort, WSSPort           string
	KeyID, Secret, InstanceID, RegionID string
	CA                                  string
}

func (o *options) facts(running *simulator.Simulator, wanted simulator.Options) facts {
	f := facts{
		API: running.APIAddress(), Admin: running.AdminAddress(),
		TCP: running.BrokerAddress(broker.TCP), TLS: running.BrokerAddress(broker.TLS),
		WS: running.BrokerAddress(broker.WebSocket), WSS: running.BrokerAddress(broker.WebSocketTLS),
		Host: wanted.Names[0], CA: "  " + strings.ReplaceAll(strings.TrimSpace(string(running.CAPEM())), "\n", "\n      "),
	}
	f.APIPort, f.TCPPort, f.TLSPort, f.WSSPort = port(f.API), port(f.TCP), port(f.TLS), port(f.WSS)
	if len(wanted.Instances) > 0 {
		f.InstanceID, f.RegionID = wanted.Instances[0].ID, wanted.Instances[0].Region
	}
	if len(wanted.Accounts) > 0 {
		f.KeyID, f.Secret = wanted.Accounts[0].Keys[0].ID, "<its secret>"
	}
	if o.keys[0] == defaultKey {
		f.Secret = defaultKey[strings.LastIndex(defaultKey, "/")+1:] // printed in the documentation too
	}
	return f
}

func port(address string) string {
	_, text, err := net.SplitHostPort(address)
	if err != nil {
		return ""
	}
	return text
}

func banner() *template.Template {
	return template.Must(template.New("banner").Parse(`MQTT token simulator

  OpenAPI    https://{{.API}}
  MQTT       mqtt://{{.TCP}}  mqtts://{{.TLS}}  ws://{{.WS}}/mqtt  wss://{{.WSS}}/mqtt
  Admin      http://{{.Admin}}

Point an instance at it (the manager must list {{.Host}}:{{.APIPort}} as an allowed endpoint):

  kubectl create secret generic simulator-ak --from-literal=accessKeyID={{.KeyID}} --from-literal=accessKeySecret={{.Secret}}

  apiVersion: mqtt.tokengrant.dev/v1alpha1
  kind: MqttInstance
  metadata: {name: simulator}
  spec:
    instanceID: {{.InstanceID}}
    regionID: {{.RegionID}}
    endpoint: {{.Host}}:{{.APIPort}}
    caBundle: &ca |
    {{.CA}}
    broker: {host: {{.Host}}, ports: {tls: {{.TLSPort}}, wss: {{.WSSPort}}, tcp: {{.TCPPort}}}, caBundle: *ca}
    credentials: {type: AccessKey, accessKey: {secretRef: {name: simulator-ak}}}
    accessRules:
    - namespaces: {from: Same}
      groupIDs: ["GID_*"]
      topics: [{filter: "#", actions: [Publish, Subscribe]}]

Look inside, and break it:

  curl -s http://{{.Admin}}/ca.crt
  curl -s http://{{.Admin}}/tokens
  curl -s http://{{.Admin}}/calls
  curl -s http://{{.Admin}}/clients
  curl -s http://{{.Admin}}/clock -d '{"advance":"10m"}'
  curl -s http://{{.Admin}}/revoke -d '{"id":"<id of /tokens>"}'
  curl -s http://{{.Admin}}/faults -X PUT -d '{"latency":"2s","calls":[{"kind":"Error","operation":"ApplyToken","rate":0.5,"status":500,"code":"SystemOverFlow"}]}'
  curl -s http://{{.Admin}}/faults -X PUT -d '{}'

`))
}
