package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// stopWithin is how long a process may take to end when it is asked to, before it is made to.
const stopWithin = 10 * time.Second

// command says how to start a process.
type command struct {
	name        string
	path        string
	arguments   []string
	environment []string // in addition to our own
	logFolder   string
}

// process is a child whose output goes to a file.
type process struct {
	name  string
	log   string
	stop  func() // asks it to end, and waits
	ended chan struct{}
}

// startProcess starts a child in a process group of its own: a Ctrl-C on the terminal reaches us alone, and we end our
// children in the order that suits them. If it ends by itself, onEnd learns why.
func startProcess(ctx context.Context, c command, onEnd func(error)) (*process, error) {
	p := &process{name: c.name, log: filepath.Join(c.logFolder, c.name+".log"), ended: make(chan struct{})}
	output, err := os.Create(p.log)
	if err != nil {
		return nil, fmt.Errorf("making a log for %s: %w", c.name, err)
	}
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	child := exec.CommandContext(running, c.path, c.arguments...)
	child.Env = append(os.Environ(), c.environment...)
	child.Stdout, child.Stderr = output, output
	child.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	child.Cancel = func() error { return child.Process.Signal(syscall.SIGTERM) }
	child.WaitDelay = stopWithin
	p.stop = func() {
		cancel()
		<-p.ended
	}
	if err := child.Start(); err != nil {
		cancel()
		return nil, errors.Join(fmt.Errorf("starting %s: %w", c.name, err), output.Close())
	}
	go func() {
		defer close(p.ended)
		err := child.Wait()
		if closing := output.Close(); err == nil {
			err = closing
		}
		switch {
		case running.Err() != nil: // it was asked to
		case err == nil:
			onEnd(fmt.Errorf("%s ended by itself; see %s", c.name, p.log))
		default:
			onEnd(fmt.Errorf("%s ended by itself, %w; see %s", c.name, err, p.log))
		}
	}()
	return p, nil
}

// tail returns the last lines of the process's log.
func (p *process) tail(lines int) string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// run runs a command to its end and returns what it printed.
func run(ctx context.Context, path string, arguments ...string) (string, error) {
	var output bytes.Buffer
	child := exec.CommandContext(ctx, path, arguments...)
	child.Stdout, child.Stderr = &output, &output
	if err := child.Run(); err != nil {
		return "", fmt.Errorf("running %s %s: %w: %s", filepath.Base(path), strings.Join(arguments, " "), err, strings.TrimSpace(output.String()))
	}
	return output.String(), nil
}
