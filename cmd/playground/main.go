// The playground shows the product on this machine: a real API server, the simulator of the cloud service and the real
// manager, and a story told on the terminal as it happens.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/go-logr/logr"
	"github.com/spf13/pflag"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/mqtt-token-operator/mqtt-token-operator/test/story"
)

func main() {
	var o options
	flags := pflag.NewFlagSet("playground", pflag.ExitOnError)
	o.addFlags(flags)
	_ = flags.Parse(os.Args[1:]) //nolint:errcheck // ExitOnError
	if err := o.complete(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	log.SetLogger(logr.Discard()) // what the libraries have to say is not part of the story
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	err := play(ctx, o, story.NewPrinter(os.Stdout))
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "playground:", err)
		os.Exit(1)
	}
}
