package gitops_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	lua "github.com/yuin/gopher-lua"
	"sigs.k8s.io/yaml"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/test/apiserver"
)

// luaWithin is how long Argo CD lets a script run.
const luaWithin = time.Second

func customizations() string {
	return filepath.Join(apiserver.Root(), "config", "argocd", v1alpha1.GroupName)
}

// runLua runs a script as Argo CD does: with the base and table libraries, two functions of os, and no others.
func runLua(ctx context.Context, script string, object map[string]any) (map[string]any, error) {
	text, err := os.ReadFile(filepath.Join(customizations(), script))
	if err != nil {
		return nil, fmt.Errorf("reading a script: %w", err)
	}
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	ctx, cancel := context.WithTimeout(ctx, luaWithin)
	defer cancel()
	state.SetContext(ctx)
	for name, open := range map[string]lua.LGFunction{lua.BaseLibName: lua.OpenBase, lua.TabLibName: lua.OpenTable, lua.OsLibName: lua.OpenOs} {
		if err := state.CallByParam(lua.P{Fn: state.NewFunction(open), Protect: true}, lua.LString(name)); err != nil {
			return nil, fmt.Errorf("loading the library %q: %w", name, err)
		}
	}
	whole := state.GetGlobal(lua.OsLibName)
	safe := state.NewTable()
	for _, name := range []string{"time", "date"} {
		state.SetField(safe, name, state.GetField(whole, name))
	}
	state.SetGlobal(lua.OsLibName, safe)
	state.SetGlobal("obj", toLua(state, object))
	if err := state.DoString(string(text)); err != nil {
		return nil, fmt.Errorf("running %s: %w", script, err)
	}
	returned, isMap := fromLua(state.Get(-1)).(map[string]any)
	if !isMap {
		return nil, fmt.Errorf("%s returned no table", script)
	}
	return returned, nil
}

func toLua(state *lua.LState, value any) lua.LValue {
	switch value := value.(type) {
	case map[string]any:
		table := state.NewTable()
		for key, each := range value {
			table.RawSetString(key, toLua(state, each))
		}
		return table
	case []any:
		table := state.NewTable()
		for _, each := range value {
			table.Append(toLua(state, each))
		}
		return table
	case string:
		return lua.LString(value)
	case bool:
		return lua.LBool(value)
	case int64:
		return lua.LNumber(value)
	case float64:
		return lua.LNumber(value)
	}
	return lua.LNil
}

// fromLua makes lists of tables that are empty or begin at 1, as Argo CD does.
func fromLua(value lua.LValue) any {
	switch value := value.(type) {
	case *lua.LTable:
		if value.Len() > 0 || value.MaxN() > 0 {
			list := []any{}
			value.ForEach(func(_, each lua.LValue) { list = append(list, fromLua(each)) })
			return list
		}
		object := map[string]any{}
		value.ForEach(func(key, each lua.LValue) { object[key.String()] = fromLua(each) })
		if len(object) == 0 {
			return []any{}
		}
		return object
	case lua.LString:
		return string(value)
	case lua.LBool:
		return bool(value)
	case lua.LNumber:
		return int64(value)
	}
	return nil
}

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
	must(t, filepath.WalkDir(customizations(), func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(customizations(), path)
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
			actions, err := runLua(t.Context(), "MqttTokenGrant/actions/discovery.lua", map[string]any{"metadata": tc.metadata})
			must(t, err)
			var got []string
			for _, name := range slices.Sorted(maps.Keys(actions)) {
				_, err := os.Stat(filepath.Join(customizations(), "MqttTokenGrant", "actions", name, "action.lua"))
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
			got, err := runLua(t.Context(), "MqttTokenGrant/actions/"+tc.action+"/action.lua", object(tc.before))
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
