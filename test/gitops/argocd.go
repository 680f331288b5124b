package gitops

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	lua "github.com/yuin/gopher-lua"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/test/apiserver"
)

// luaWithin is how long Argo CD lets a script run.
const luaWithin = time.Second

// Customizations is the folder with the scripts that Argo CD runs.
func Customizations() string {
	return filepath.Join(apiserver.Root(), "config", "argocd", v1alpha1.GroupName)
}

// RunLua runs a script of that folder on an object, as Argo CD does: with the base and table libraries, two functions of os, and no others.
func RunLua(ctx context.Context, script string, object map[string]any) (map[string]any, error) {
	text, err := os.ReadFile(filepath.Join(Customizations(), script))
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
