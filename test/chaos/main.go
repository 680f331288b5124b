// The chaos run drives the manager's process against a real control plane and the simulator, breaks whatever it can for
// a number of minutes by a schedule that a seed decides, and watches that no promise is broken meanwhile.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/go-logr/logr"
	"github.com/spf13/pflag"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/log"
)

func main() {
	var o options
	flags := pflag.NewFlagSet("chaos", pflag.ExitOnError)
	o.addFlags(flags)
	_ = flags.Parse(os.Args[1:]) //nolint:errcheck // ExitOnError
	if err := o.complete(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	log.SetLogger(logr.Discard()) // the libraries complain about every fault
	klog.SetLogger(logr.Discard())
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	err := run(ctx, o, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(1)
	}
}
