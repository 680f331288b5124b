package main

import "testing"

func TestDamageIsOursUntilItIsMadeGood(t *testing.T) {
	type version struct {
		version string
		whole   bool
		want    bool
	}
	for sentence, tc := range map[string]struct {
		during []version // seen while we write
		after  []version
	}{
		"the version that we wrote":                           {after: []version{{"10", false, true}}},
		"and what follows until it is whole":                  {after: []version{{"10", false, true}, {"11", false, true}, {"12", true, true}, {"13", false, false}}},
		"the version before comes late, while we write":       {during: []version{{"9", true, true}}, after: []version{{"10", false, true}, {"11", true, true}, {"12", false, false}}},
		"the version before comes late, after we wrote":       {after: []version{{"9", true, true}, {"10", false, true}}},
		"ours comes before we know it":                        {during: []version{{"10", false, true}}, after: []version{{"11", true, true}, {"12", false, false}}},
		"ten comes after nine, not before two":                {after: []version{{"2", true, true}, {"9", true, true}, {"10", false, true}}},
		"it is made good before we know which version it was": {during: []version{{"10", false, true}, {"11", true, true}}, after: []version{{"12", true, true}, {"13", false, false}}},
	} {
		t.Run(sentence, func(t *testing.T) {
			var d damage
			if d.see("8", true) {
				t.Error("blamed for nothing")
			}
			d.begin()
			for _, v := range tc.during {
				if got := d.see(v.version, v.whole); got != v.want {
					t.Errorf("version %s: %v", v.version, got)
				}
			}
			d.done("10")
			for _, v := range tc.after {
				if got := d.see(v.version, v.whole); got != v.want {
					t.Errorf("version %s: %v", v.version, got)
				}
			}
		})
	}
}
