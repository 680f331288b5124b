package gitops_test

import (
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/test/gitops"
)

// TestVerdictsOnOddObjects has the tools judge what no manager of ours wrote.
func TestVerdictsOnOddObjects(t *testing.T) {
	tools, err := gitops.NewJudges()
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
		want    gitops.Verdict
	}{
		"nobody has seen it":               {map[string]any{"observedGeneration": int64(-1)}, false, gitops.InProgress()},
		"it is as it should be":            {seen(condition("Ready", "True", "Issued")), false, gitops.Current()},
		"it was seen before its last edit": {map[string]any{"observedGeneration": int64(2), "conditions": []any{condition("Ready", "True", "Issued")}}, false, gitops.InProgress()},
		"it works and must be edited":      {seen(condition("Ready", "True", "Issued"), condition("Stalled", "True", "Refused")), false, gitops.Failed()},
		"it is under way":                  {seen(condition("Ready", "False", "Throttled"), condition("Reconciling", "True", "Throttled")), false, gitops.InProgress()},
		"its renewal fails, and it works":  {seen(condition("Ready", "True", "Issued"), condition("Renewed", "False", "ServiceUnavailable")), false, gitops.Current()},
		"it works and is being deleted":    {seen(condition("Ready", "True", "Issued")), true, gitops.Terminating()},
		"it failed and is being deleted":   {seen(condition("Ready", "False", "Refused"), condition("Stalled", "True", "Refused")), true, gitops.Terminating()},
	} {
		t.Run(sentence, func(t *testing.T) {
			for _, kind := range []string{"MqttTokenGrant", "MqttInstance"} {
				object := &unstructured.Unstructured{Object: map[string]any{
					"kind": kind, "metadata": map[string]any{"generation": int64(3)}, "status": tc.status,
				}}
				if tc.deleted {
					must(t, unstructured.SetNestedField(object.Object, "2031-05-17T03:04:05Z", "metadata", "deletionTimestamp"))
				}
				got, err := tools.Judge(t.Context(), object)
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
	tools, err := gitops.NewJudges()
	must(t, err)
	for _, reason := range []string{v1alpha1.ReasonHeld, v1alpha1.ReasonSuspended} {
		conditions := []any{
			map[string]any{"type": "Ready", "status": "False", "reason": reason, "message": "as it is"},
			map[string]any{"type": "Reconciling", "status": "True", "reason": reason, "message": "as it is"},
		}
		got, err := tools.Judge(t.Context(), &unstructured.Unstructured{Object: map[string]any{
			"kind": "MqttTokenGrant", "metadata": map[string]any{"generation": int64(3)},
			"status": map[string]any{"observedGeneration": int64(3), "conditions": conditions},
		}})
		must(t, err)
		if got != gitops.WaitsForAPerson() {
			t.Errorf("%s: got %v", reason, got)
		}
	}
}
