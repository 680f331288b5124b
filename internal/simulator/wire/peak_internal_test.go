package wire

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/simulator/state"
)

func TestPeaks(t *testing.T) {
	type call struct {
		op     state.Operation
		second int64
	}
	for sentence, tc := range map[string]struct {
		calls []call
		want  map[state.Operation]int
	}{
		"nothing has no peak": {want: map[state.Operation]int{}},
		"calls of one second add up": {
			calls: []call{{state.Apply, 7}, {state.Apply, 7}},
			want:  map[state.Operation]int{state.Apply: 2, AllOperations: 2},
		},
		"calls of different seconds do not": {
			calls: []call{{state.Apply, 7}, {state.Apply, 8}},
			want:  map[state.Operation]int{state.Apply: 1, AllOperations: 1},
		},
		"a calm second does not lower a peak": {
			calls: []call{{state.Apply, 7}, {state.Apply, 7}, {state.Revoke, 8}},
			want:  map[state.Operation]int{state.Apply: 2, state.Revoke: 1, AllOperations: 2},
		},
		"operations count apart and together": {
			calls: []call{{state.Apply, 7}, {state.Query, 7}, {state.Revoke, 7}},
			want:  map[state.Operation]int{state.Apply: 1, state.Query: 1, state.Revoke: 1, AllOperations: 3},
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			p := newPeaks()
			for _, c := range tc.calls {
				p.count(c.op, c.second)
			}
			if diff := cmp.Diff(tc.want, p.get()); diff != "" {
				t.Error(diff)
			}
		})
	}
}
