// Command image packs static programs into a container image, from an empty base and without Docker, and writes it as an
// archive in the OCI layout. The same files give the same bytes.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
)

func main() {
	var o options
	flag.StringVar(&o.output, "output", "", "archive to write")
	flag.StringVar(&o.name, "name", "", "name and tag of the image, as a cluster refers to it: example/app:1.0")
	flag.StringVar(&o.architecture, "arch", "amd64", "architecture of the programs")
	flag.StringVar(&o.certificates, "certificates", "", "bundle of CA certificates to put where programs look for it; empty: none")
	flag.Func("label", "name=value; repeatable", o.addLabel)
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: image --name NAME:TAG --output FILE [flags] PROGRAM...\nThe first program is the entry point; each lies in / under its own name.")
		flag.PrintDefaults()
	}
	flag.Parse()
	o.programs = flag.Args()
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

// options say what goes into an image.
type options struct {
	output, name, architecture, certificates string
	labels                                   map[string]string
	programs                                 []string
}

func (o *options) addLabel(text string) error {
	name, value, found := strings.Cut(text, "=")
	if !found || name == "" {
		return errors.New("want name=value")
	}
	if o.labels == nil {
		o.labels = map[string]string{}
	}
	o.labels[name] = value
	return nil
}

func (o *options) validate() error {
	switch {
	case o.output == "" || o.name == "":
		return errors.New("--output and --name are needed")
	case len(o.programs) == 0:
		return errors.New("no program is named")
	}
	return nil
}

func run(o options) error {
	if err := o.validate(); err != nil {
		return err
	}
	image, err := build(o)
	if err != nil {
		return err
	}
	return archive(image, o.name, o.output)
}
