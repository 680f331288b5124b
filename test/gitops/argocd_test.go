package gitops_test

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/test/apiserver"
	"github.com/mqtt-token-operator/mqtt-token-operator/test/gitops"
)

// TestTheConfigMapHoldsTheScripts compares what is there to paste with the files that are tested.
func TestTheConfigMapHoldsTheScripts(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(apiserver.Root(), "config", "argocd", "argocd-cm.yaml"))
	must(t, err)
	var patch struct {
		Data map[string]string `json:"data"`
	}
	must(t, yaml.Unmarshal(text, &patch))
	got := map[string]string{}
	for key, value := range patch.Data {
		what, resource, _ := strings.Cut(strings.TrimPrefix(key, "resource.customizations."), ".")
		kind := strings.TrimPrefix(resource, v1alpha1.GroupName+"_")
		switch what {
		case "health":
			got[filepath.Join(kind, "health.lua")] = value
		case "actions":
			maps.Copy(got, actionsIn(t, kind, value))
		default:
			t.Errorf("unexpected key %q", key)
		}
	}
	want := map[string]string{}
	must(t, filepath.WalkDir(gitops.Customizations(), func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(gitops.Customizations(), path)
		want[name] = string(text)
		return err
	}))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("config/argocd/argocd-cm.yaml (+) is not what the scripts (-) are:\n%s", diff)
	}
}

func actionsIn(t *testing.T, kind, value string) map[string]string {
	t.Helper()
	var actions struct {
		Discovery   string `json:"discovery.lua"`
		Definitions []struct {
			Name   string `json:"name"`
			Action string `json:"action.lua"`
		} `json:"definitions"`
	}
	must(t, yaml.UnmarshalStrict([]byte(value), &actions))
	files := map[string]string{filepath.Join(kind, "actions", "discovery.lua"): actions.Discovery}
	for _, definition := range actions.Definitions {
		files[filepath.Join(kind, "actions", definition.Name, "action.lua")] = definition.Action
	}
	return files
}

// TestWhichActionsAreOffered runs discovery.lua; each action that it names must be there.
func TestWhichActionsAreOffered(t *testing.T) {
	hold := map[string]any{v1alpha1.HoldAnnotation: "theft"}
	for sentence, tc := range map[string]struct {
		metadata map[string]any
		want     []string
	}{
		"a grant without annotations can be reissued or held": {map[string]any{}, []string{"hold", "reissue"}},
		"so can one with others":                              {map[string]any{"annotations": map[string]any{"a": "b"}}, []string{"hold", "reissue"}},
		"a held one can be released":                          {map[string]any{"annotations": hold}, []string{"release"}},
		"one in deletion takes no orders":                     {map[string]any{"annotations": hold, "deletionTimestamp": "2031-05-17T03:04:05Z"}, nil},
	} {
		t.Run(sentence, func(t *testing.T) {
			actions, err := gitops.RunLua(t.Context(), "MqttTokenGrant/actions/discovery.lua", map[string]any{"metadata": tc.metadata})
			must(t, err)
			var got []string
			for _, name := range slices.Sorted(maps.Keys(actions)) {
				_, err := os.Stat(filepath.Join(gitops.Customizations(), "MqttTokenGrant", "actions", name, "action.lua"))
				must(t, err)
				if disabled, _ := actions[name].(map[string]any)["disabled"].(bool); !disabled {
					got = append(got, name)
				}
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestWhatActionsWrite runs each action on a grant of nothing but annotations.
func TestWhatActionsWrite(t *testing.T) {
	const sometime = "a time"
	for sentence, tc := range map[string]struct {
		action       string
		before, want map[string]any
	}{
		"the first annotation":                 {"hold", nil, map[string]any{v1alpha1.HoldAnnotation: "held from Argo CD"}},
		"one more":                             {"hold", map[string]any{"a": "b"}, map[string]any{"a": "b", v1alpha1.HoldAnnotation: "held from Argo CD"}},
		"the last annotation goes":             {"release", map[string]any{v1alpha1.HoldAnnotation: "x"}, nil},
		"others stay":                          {"release", map[string]any{"a": "b", v1alpha1.HoldAnnotation: "x"}, map[string]any{"a": "b"}},
		"who was not held stays as it is":      {"release", nil, nil},
		"a reissue has a value of its own":     {"reissue", nil, map[string]any{v1alpha1.ReissueAnnotation: sometime}},
		"another reissue has another value":    {"reissue", map[string]any{v1alpha1.ReissueAnnotation: "1"}, map[string]any{v1alpha1.ReissueAnnotation: sometime}},
		"a reissue leaves the policy as it is": {"reissue", map[string]any{v1alpha1.ReissuePolicyAnnotation: "Revoke"}, map[string]any{v1alpha1.ReissuePolicyAnnotation: "Revoke", v1alpha1.ReissueAnnotation: sometime}},
	} {
		t.Run(sentence, func(t *testing.T) {
			object := func(annotations map[string]any) map[string]any {
				metadata := map[string]any{"name": "press"}
				if annotations != nil {
					metadata["annotations"] = annotations
				}
				return map[string]any{"metadata": metadata}
			}
			got, err := gitops.RunLua(t.Context(), "MqttTokenGrant/actions/"+tc.action+"/action.lua", object(tc.before))
			must(t, err)
			annotations, _ := got["metadata"].(map[string]any)["annotations"].(map[string]any)
			if value, isText := annotations[v1alpha1.ReissueAnnotation].(string); isText {
				if _, err := time.Parse(time.RFC3339, value); err == nil {
					annotations[v1alpha1.ReissueAnnotation] = sometime
				}
			}
			if diff := cmp.Diff(object(tc.want), got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
