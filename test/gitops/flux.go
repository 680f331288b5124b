package gitops

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/ext"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
	"sigs.k8s.io/yaml"

	"github.com/mqtt-token-operator/mqtt-token-operator/test/apiserver"
)

// expressions are what Flux evaluates for a kind.
type expressions struct{ inProgress, failed, current cel.Program }

// fluxChecks reads the expressions that are there to paste.
func fluxChecks() (map[string]expressions, error) {
	text, err := os.ReadFile(filepath.Join(apiserver.Root(), "config", "flux", "health-checks.yaml"))
	if err != nil {
		return nil, fmt.Errorf("reading the health checks: %w", err)
	}
	var kustomization struct {
		Spec struct {
			Checks []struct {
				APIVersion string `json:"apiVersion"`
				Kind       string `json:"kind"`
				InProgress string `json:"inProgress"`
				Failed     string `json:"failed"`
				Current    string `json:"current"`
			} `json:"healthCheckExprs"`
		} `json:"spec"`
	}
	if err := yaml.Unmarshal(text, &kustomization); err != nil {
		return nil, fmt.Errorf("reading the health checks: %w", err)
	}
	// The dialect that Flux speaks.
	environment, err := cel.NewEnv(cel.HomogeneousAggregateLiterals(), cel.EagerlyValidateDeclarations(true), cel.DefaultUTCTimeZone(true),
		cel.CrossTypeNumericComparisons(true), cel.OptionalTypes(), ext.Strings(), ext.Sets(), ext.Encoders())
	if err != nil {
		return nil, fmt.Errorf("setting CEL up: %w", err)
	}
	checks := map[string]expressions{}
	for _, check := range kustomization.Spec.Checks {
		var faults [3]error
		var e expressions
		e.inProgress, faults[0] = parse(environment, check.InProgress)
		e.failed, faults[1] = parse(environment, check.Failed)
		e.current, faults[2] = parse(environment, check.Current)
		if err := errors.Join(faults[:]...); err != nil {
			return nil, err
		}
		checks[check.Kind] = e
	}
	return checks, nil
}

// parse parses an expression and does not check its types, because Flux cannot know them.
func parse(environment *cel.Env, expression string) (cel.Program, error) {
	parsed, issues := environment.Parse(expression)
	if err := issues.Err(); err != nil {
		return nil, fmt.Errorf("parsing %q: %w", expression, err)
	}
	return environment.Program(parsed)
}

// evaluate follows Flux: the generation first, then the expressions in this order.
func (e expressions) evaluate(ctx context.Context, object *unstructured.Unstructured) (status.Status, error) {
	observed, found, err := unstructured.NestedInt64(object.Object, "status", "observedGeneration")
	if err != nil || found && observed != object.GetGeneration() {
		return status.InProgressStatus, err
	}
	for _, each := range []struct {
		program cel.Program
		means   status.Status
	}{{e.inProgress, status.InProgressStatus}, {e.failed, status.FailedStatus}, {e.current, status.CurrentStatus}} {
		value, _, err := each.program.ContextEval(ctx, object.Object)
		if err != nil {
			return "", fmt.Errorf("evaluating what means %s: %w", each.means, err)
		}
		if value.Value() == true {
			return each.means, nil
		}
	}
	return status.InProgressStatus, nil
}
