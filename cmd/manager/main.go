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
	flags := pflag.NewFlagSet("manager", pflag.ExitOnError)
	options.addFlags(flags)
	_ = flags.Parse(os.Args[1:]) // ExitOnError
	if err := options.validate(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	if err := run(ctrl.SetupSignalHandler(), options); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
