package cluster

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

// Command says how to start a process.
type Command struct {
	Name        string
	Path        string
	Arguments   []string
	Environment []string // in addition to our own
	LogFolder   string
	// Attributes are how the operating system is to start it; nil: as any child.
	Attributes *syscall.SysProcAttr
}

// Process is a child whose output goes to a file.
type Process struct {
	// Log is the file that its output goes to.
	Log string

	child *exec.Cmd
	stop  context.CancelFunc
	ended chan struct{}
}

func (c Command) attributes() *syscall.SysProcAttr {
	attributes := syscall.SysProcAttr{}
	if c.Attributes != nil {
		attributes = *c.Attributes
	}
	attributes.Setpgid = true
	return &attributes
}

// StartProcess starts a child in a process group of its own: a Ctrl-C on the terminal reaches us alone, and we end our
// children in the order that suits them. If it ends by itself, onEnd learns why.
func StartProcess(ctx context.Context, c Command, onEnd func(error)) (*Process, error) {
	p := &Process{Log: filepath.Join(c.LogFolder, c.Name+".log"), ended: make(chan struct{})}
	output, err := os.Create(p.Log)
	if err != nil {
		return nil, fmt.Errorf("making a log for %s: %w", c.Name, err)
	}
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	p.stop = cancel
	p.child = exec.CommandContext(running, c.Path, c.Arguments...)
	p.child.Env = append(os.Environ(), c.Environment...)
	p.child.Stdout, p.child.Stderr = output, output
	p.child.SysProcAttr = c.attributes()
	p.child.Cancel = func() error { return p.child.Process.Signal(syscall.SIGTERM) }
	p.child.WaitDelay = stopWithin
	if err := p.child.Start(); err != nil {
		cancel()
		return nil, errors.Join(fmt.Errorf("starting %s: %w", c.Name, err), output.Close())
	}
	go func() {
		defer close(p.ended)
		err := p.child.Wait()
		if closing := output.Close(); err == nil {
			err = closing
		}
		switch {
		case running.Err() != nil: // it was asked to
		case err == nil:
			onEnd(fmt.Errorf("%s ended by itself; see %s", c.Name, p.Log))
		default:
			onEnd(fmt.Errorf("%s ended by itself, %w; see %s", c.Name, err, p.Log))
		}
	}()
	return p, nil
}

// Stop asks the process to end, and waits until it has. It may be called again, and on a process that has ended.
func (p *Process) Stop() {
	p.stop()
	<-p.ended
}

// Ended is closed when the process is gone, however that came.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// ID is the process's number.
func (p *Process) ID() int { return p.child.Process.Pid }

// Signal sends a signal. That the process has ended is no error.
func (p *Process) Signal(s syscall.Signal) error {
	if err := p.child.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("sending %s: %w", s, err)
	}
	return nil
}

// Tail returns the last lines of the process's log.
func (p *Process) Tail(lines int) string { return Tail(p.Log, lines) }

// Tail returns the last lines of a file.
func Tail(file string, lines int) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// Run runs a command to its end and returns its output. What it warns of is told only if it fails.
func Run(ctx context.Context, path string, arguments ...string) (string, error) {
	var output, complaints bytes.Buffer
	child := exec.CommandContext(ctx, path, arguments...)
	child.Stdout, child.Stderr = &output, &complaints
	if err := child.Run(); err != nil {
		return "", fmt.Errorf("running %s %s: %w: %s", filepath.Base(path), strings.Join(arguments, " "), err, strings.TrimSpace(complaints.String()+output.String()))
	}
	return output.String(), nil
}
