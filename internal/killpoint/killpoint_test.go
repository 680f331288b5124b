package killpoint_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// variable is what arms a point in a build that has them.
const variable = "MQTT_KILLPOINT"

func build(t *testing.T, what string, flags ...string) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "program")
	arguments := append(append([]string{"build", "-trimpath", "-o", program}, flags...), what)
	if out, err := exec.CommandContext(t.Context(), "go", arguments...).CombinedOutput(); err != nil {
		t.Fatalf("building %s: %v\n%s", what, err, out)
	}
	return program
}

func TestABuildWithTheTagDiesAtTheArmedPoint(t *testing.T) {
	steps := build(t, "./testdata/steps", "-tags=killpoints")
	for sentence, tc := range map[string]struct {
		armed string
		want  string // what it prints
		ends  string
	}{
		"not armed, it goes to the end":             {want: ".....", ends: "exit status 0"},
		"armed, it dies before the step that comes": {armed: "after-apply:3", want: "..", ends: "signal: killed"},
		"another point is not reached":              {armed: "after-secret:1", want: ".....", ends: "exit status 0"},
		"a later time is not reached":               {armed: "after-apply:6", want: ".....", ends: "exit status 0"},
		"what is no point is a mistake":             {armed: "after-lunch:1", ends: "exit status 2"},
		"a count is needed":                         {armed: "after-apply", ends: "exit status 2"},
	} {
		t.Run(sentence, func(t *testing.T) {
			out, ends := run(t, steps, tc.armed)
			if diff := cmp.Diff(tc.want, out); diff != "" {
				t.Errorf("it printed (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tc.ends, ends); diff != "" {
				t.Errorf("it ended (-want +got):\n%s", diff)
			}
		})
	}
}

func TestABuildWithoutTheTagCannotBeArmed(t *testing.T) {
	out, ends := run(t, build(t, "./testdata/steps"), "after-apply:3")
	if out != "....." || ends != "exit status 0" {
		t.Errorf("it printed %q and ended with %s", out, ends)
	}
}

// The manager that ships is built without the tag: it must not even know the variable.
func TestTheManagerDoesNotKnowTheVariable(t *testing.T) {
	for sentence, tc := range map[string]struct {
		program string
		want    bool
	}{
		"this test would see it": {program: build(t, "./testdata/steps", "-tags=killpoints"), want: true},
		"the manager has it not": {program: build(t, "../../cmd/manager"), want: false},
	} {
		t.Run(sentence, func(t *testing.T) {
			text, err := os.ReadFile(tc.program)
			if err != nil {
				t.Fatal(err)
			}
			if got := bytes.Contains(text, []byte(variable)); got != tc.want {
				t.Errorf("the program contains %s: %v, want %v", variable, got, tc.want)
			}
		})
	}
}

// run returns what a program prints and how it ends.
func run(t *testing.T, program, armed string) (string, string) {
	t.Helper()
	command := exec.CommandContext(t.Context(), program)
	command.Env = append(os.Environ(), variable+"="+armed)
	out, err := command.Output()
	var ended *exec.ExitError
	if err != nil && !errors.As(err, &ended) {
		t.Fatal(err)
	}
	return string(out), command.ProcessState.String()
}
