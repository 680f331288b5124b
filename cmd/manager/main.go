// The manager runs the MQTT token operator: it keeps the tokens of MqttTokenGrants valid in their Secrets.
package main

import (
	"fmt"
	"os"

	"github.com/spf13/pflag"
	ctrl "sigs.k8s.io/controller-runtime"
)

func main() {
	options := defaults()
	options.addFlags(pflag.CommandLine)
	pflag.Parse()
	if err := options.validate(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	if err := run(ctrl.SetupSignalHandler(), options); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
