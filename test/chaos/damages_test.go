package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWhichHalfVersionsAreOurOwnWork(t *testing.T) {
	const half, entire = false, true
	type version struct {
		name  string
		whole bool
		ours  bool // whether it is told to be our work
	}
	expect := func(d *damages) { d.expect() }
	withdrawn := func(d *damages) { d.withdrawn() }
	known := func(name string) func(*damages) { return func(d *damages) { d.known(name) } }
	for sentence, steps := range map[string][]any{
		"without damage none is":         {version{"9", half, false}},
		"while one is under way any is":  {expect, version{"9", half, true}},
		"the damaged one is":             {expect, known("10"), version{"10", half, true}},
		"what is made of it is":          {expect, known("10"), version{"11", half, true}},
		"a whole one after it ends that": {expect, known("10"), version{"11", entire, true}, version{"12", half, false}},
		"a whole one that comes late, before the version is known, does not": {
			expect, version{"9", entire, true}, known("10"), version{"10", half, true},
		},
		"a whole one that comes late, after the version is known, does not": {
			expect, known("10"), version{"9", entire, true}, version{"10", half, true},
		},
		"versions are numbers": {expect, known("10"), version{"9", entire, true}, version{"10", half, true}},
		"a whole one that came before we knew the damaged version ends it": {
			expect, version{"10", half, true}, version{"11", entire, true}, known("10"), version{"12", half, false},
		},
		"a damage that was not done excuses nothing": {expect, withdrawn, version{"9", half, false}},
		"a damage that was not done leaves the one before": {
			expect, known("10"), expect, withdrawn, version{"10", half, true}, version{"11", entire, true}, version{"12", half, false},
		},
		"a whole one between two damages does not end the second": {
			expect, known("10"), expect,
			version{"11", entire, true},
			known("12"),
			version{"12", half, true},
			version{"13", entire, true},
			version{"14", half, false},
		},
		"of two the newer counts, whichever is known first": {
			expect, expect, known("12"), known("10"), version{"11", entire, true}, version{"12", half, true},
		},
		"one known, another under way: none ends": {
			expect, expect, known("10"), version{"11", entire, true}, version{"12", half, true},
		},
		"a version that is no number ends nothing": {expect, known("10"), version{"x", entire, true}, version{"12", half, true}},
	} {
		t.Run(sentence, func(t *testing.T) {
			var d damages
			for i, step := range steps {
				switch s := step.(type) {
				case func(*damages):
					s(&d)
				case version:
					if diff := cmp.Diff(s.ours, d.see(s.name, s.whole)); diff != "" {
						t.Errorf("step %d, version %s: it is our work (-want +got):\n%s", i, s.name, diff)
					}
				}
			}
		})
	}
}
