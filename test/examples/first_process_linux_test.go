package examples_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/mqtt-token-operator/mqtt-token-operator/test/apiserver"
)

// In a container a program is the first process, which a signal ends only if the program takes it. Otherwise each rollout
// waits for the whole grace period.
func TestTheExamplesEndWhenThePodDoes(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("a process namespace of its own needs root")
	}
	eachExample(t, func(t *testing.T, e example) {
		command := e.command
		if command[0] == "go" { // which is another process than the program
			program := filepath.Join(t.TempDir(), "program")
			build := exec.CommandContext(t.Context(), "go", "build", "-o", program, command[len(command)-1])
			build.Dir = apiserver.Root()
			if output, err := build.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, output)
			}
			command = []string{program}
		}
		folder := t.TempDir()
		child := exec.CommandContext(t.Context(), command[0], command[1:]...)
		child.Dir = apiserver.Root()
		child.Env = append(os.Environ(), "MQTT_CREDENTIALS_DIR="+folder, "MQTT_TOPIC=x", "POD_NAME=pod-1", "SCRATCH="+folder)
		child.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
		output, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := output.Read(make([]byte, 64)); err != nil { // it says that it waits
			t.Fatal(err)
		}
		if err := child.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- child.Wait() }()
		select {
		case <-ended:
		case <-time.After(soon):
			t.Error("it goes on")
			if err := child.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	})
}
