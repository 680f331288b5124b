// Command image builds a container image from nothing but static binaries, without Docker and without a base image, as an
// OCI archive: what `podman load`, `skopeo copy oci-archive:` and `ctr images import` take.
//
// The same binaries give the same bytes, whoever builds the image and when: every time in it is SOURCE_DATE_EPOCH, or 1970.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
)

func main() {
	if err := run(os.Args[1:], os.Getenv("SOURCE_DATE_EPOCH"), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

// run is the command: it writes the archive and says what is in it.
func run(arguments []string, epoch string, out io.Writer) error {
	s := spec{labels: map[string]string{}}
	var output string
	var authorities bool
	flags := flag.NewFlagSet("image", flag.ContinueOnError)
	flags.StringVar(&output, "output", "", "the archive to write")
	flags.StringVar(&s.name, "name", "", "the image's name with its tag")
	flags.StringVar(&s.entrypoint, "entrypoint", "", "the program to run; when absent the first binary")
	flags.BoolVar(&authorities, "ca-certificates", false, "put in the certificate authorities that this machine trusts")
	flags.Func("label", "a label as key=value; repeatable", func(text string) error {
		key, value, found := strings.Cut(text, "=")
		if !found || key == "" {
			return fmt.Errorf("want key=value, got %q", text)
		}
		s.labels[key] = value
		return nil
	})
	flags.Usage = func() {
		_, _ = io.WriteString(flags.Output(), "Usage: image --output FILE --name NAME:TAG [flags] BINARY...\n") //nolint:errcheck // as PrintDefaults
		flags.PrintDefaults()
	}
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	s.binaries = flags.Args()
	if output == "" || s.name == "" || len(s.binaries) == 0 {
		return errors.New("want --output, --name and at least one binary")
	}
	var err error
	if s.created, err = parseEpoch(epoch); err != nil {
		return err
	}
	if authorities {
		if s.authorities, err = trustedHere(authorityFiles()); err != nil {
			return err
		}
	}
	made, err := build(s)
	if err != nil {
		return err
	}
	if err := writeArchive(made, output); err != nil {
		return err
	}
	return describe(out, made, output)
}

// parseEpoch reads SOURCE_DATE_EPOCH: seconds since 1970, which is also what its absence means.
func parseEpoch(text string) (time.Time, error) {
	if text == "" {
		return time.Unix(0, 0).UTC(), nil
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("reading SOURCE_DATE_EPOCH: %w", err)
	}
	return time.Unix(seconds, 0).UTC(), nil
}

func describe(out io.Writer, made *image, file string) error {
	digest, err := made.Digest()
	if err != nil {
		return fmt.Errorf("computing the digest: %w", err)
	}
	info, err := os.Stat(file)
	if err != nil {
		return fmt.Errorf("looking at the archive: %w", err)
	}
	_, err = fmt.Fprintf(out, "wrote %s: %s, %s, %d KiB, %s\n", file, made.name, made.platform, info.Size()>>10, digest)
	return err
}
