package gitops_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/ext"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
	"sigs.k8s.io/yaml"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/test/apiserver"
)

// verdict is what the tools make of an object.
type verdict struct {
	kstatus, flux status.Status
	argoCD        string
}

// Verdicts that tools may reach, each in the words of all of them.
func current() verdict {
	return verdict{status.CurrentStatus, status.CurrentStatus, "Healthy"}
}

func inProgress() verdict {
	return verdict{status.InProgressStatus, status.InProgressStatus, "Progressing"}
}

func waitsForAPerson() verdict {
	return verdict{status.InProgressStatus, status.InProgressStatus, "Suspended"}
}

func failed() verdict {
	return verdict{status.FailedStatus, status.FailedStatus, "Degraded"}
}

func terminating() verdict {
	return verdict{status.TerminatingStatus, status.InProgressStatus, "Progressing"}
}

// judges are the three tools.
type judges struct{ checks map[string]expressions } // by kind

func newJudges() (judges, error) {
	checks, err := fluxChecks()
	return judges{checks: checks}, err
}

func (j judges) judge(ctx context.Context, object *unstructured.Unstructured) (verdict, error) {
	result, err := status.Compute(object)
	if err != nil {
		return verdict{}, fmt.Errorf("asking kstatus: %w", err)
	}
	flux, err := j.checks[object.GetKind()].evaluate(ctx, object)
	if err != nil {
		return verdict{}, err
	}
	health, err := runLua(ctx, filepath.Join(object.GetKind(), "health.lua"), object.Object)
	if err != nil {
		return verdict{}, err
	}
	argoCD, _ := health["status"].(string)
	if message, _ := health["message"].(string); message == "" {
		return verdict{}, errors.New("the health check has no message")
	}
	return verdict{kstatus: result.Status, flux: flux, argoCD: argoCD}, nil
}

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

// TestVerdictsOnOddObjects has the tools judge what no manager of ours wrote.
func TestVerdictsOnOddObjects(t *testing.T) {
	tools, err := newJudges()
	must(t, err)
	condition := func(kind, value, reason string) any {
		return map[string]any{"type": kind, "status": value, "reason": reason, "message": "as it is"}
	}
	seen := func(conditions ...any) map[string]any {
		return map[string]any{"observedGeneration": int64(3), "conditions": conditions}
	}
	for sentence, tc := range map[string]struct {
		status  map[string]any
		deleted bool
		want    verdict
	}{
		"nobody has seen it":               {map[string]any{"observedGeneration": int64(-1)}, false, inProgress()},
		"it is as it should be":            {seen(condition("Ready", "True", "Issued")), false, current()},
		"it was seen before its last edit": {map[string]any{"observedGeneration": int64(2), "conditions": []any{condition("Ready", "True", "Issued")}}, false, inProgress()},
		"it works and must be edited":      {seen(condition("Ready", "True", "Issued"), condition("Stalled", "True", "Refused")), false, failed()},
		"it is under way":                  {seen(condition("Ready", "False", "Throttled"), condition("Reconciling", "True", "Throttled")), false, inProgress()},
		"its renewal fails, and it works":  {seen(condition("Ready", "True", "Issued"), condition("Renewed", "False", "ServiceUnavailable")), false, current()},
		"it works and is being deleted":    {seen(condition("Ready", "True", "Issued")), true, terminating()},
		"it failed and is being deleted":   {seen(condition("Ready", "False", "Refused"), condition("Stalled", "True", "Refused")), true, terminating()},
	} {
		t.Run(sentence, func(t *testing.T) {
			for _, kind := range []string{"MqttTokenGrant", "MqttInstance"} {
				object := &unstructured.Unstructured{Object: map[string]any{
					"kind": kind, "metadata": map[string]any{"generation": int64(3)}, "status": tc.status,
				}}
				if tc.deleted {
					must(t, unstructured.SetNestedField(object.Object, "2031-05-17T03:04:05Z", "metadata", "deletionTimestamp"))
				}
				got, err := tools.judge(t.Context(), object)
				must(t, err)
				if got != tc.want {
					t.Errorf("%s: got %v, want %v", kind, got, tc.want)
				}
			}
		})
	}
}

// TestWhatWaitsForAPerson has Argo CD tell a grant that somebody stopped from one that is under way.
func TestWhatWaitsForAPerson(t *testing.T) {
	tools, err := newJudges()
	must(t, err)
	for _, reason := range []string{v1alpha1.ReasonHeld, v1alpha1.ReasonSuspended} {
		conditions := []any{
			map[string]any{"type": "Ready", "status": "False", "reason": reason, "message": "as it is"},
			map[string]any{"type": "Reconciling", "status": "True", "reason": reason, "message": "as it is"},
		}
		got, err := tools.judge(t.Context(), &unstructured.Unstructured{Object: map[string]any{
			"kind": "MqttTokenGrant", "metadata": map[string]any{"generation": int64(3)},
			"status": map[string]any{"observedGeneration": int64(3), "conditions": conditions},
		}})
		must(t, err)
		if got != waitsForAPerson() {
			t.Errorf("%s: got %v", reason, got)
		}
	}
}
