package mqttcred

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestWhenAClientMayConnect(t *testing.T) {
	noon := time.Date(2033, 3, 3, 12, 0, 0, 0, time.UTC)
	one, two := Credentials{Username: "u", Password: "1"}, Credentials{Username: "u", Password: "2"}
	type ending struct {
		why    Ending
		lasted time.Duration
	}
	times := func(n int, e ending) []ending {
		all := make([]ending, n)
		for i := range all {
			all[i] = e
		}
		return all
	}
	for sentence, tc := range map[string]struct {
		endings []ending // of one, all at noon
		luck    float64
		asked   Credentials
		want    time.Duration // from noon; negative: at once
	}{
		"at once at first":                         {asked: one, want: -1},
		"a second after a failure":                 {endings: times(1, ending{why: Lost}), asked: one, want: time.Second},
		"later after each in a row":                {endings: times(4, ending{why: Lost}), asked: one, want: 8 * time.Second},
		"by chance half as much later":             {endings: times(4, ending{why: Lost}), luck: 0.5, asked: one, want: 10 * time.Second},
		"within a minute at most":                  {endings: times(100, ending{why: Lost}), asked: one, want: time.Minute},
		"a second after a connection that held":    {endings: append(times(9, ending{why: Lost}), ending{Lost, time.Minute}), asked: one, want: time.Second},
		"not earlier after one that did not":       {endings: append(times(3, ending{why: Lost}), ending{Lost, 29 * time.Second}), asked: one, want: 8 * time.Second},
		"half a minute after a refusal":            {endings: times(1, ending{why: Refused}), asked: one, want: 30 * time.Second},
		"within ten minutes of the last refusal":   {endings: times(100, ending{why: Refused}), asked: one, want: 10 * time.Minute},
		"at once with others":                      {endings: times(9, ending{why: Refused}), asked: two, want: -1},
		"at once after it ended the connection":    {endings: times(3, ending{why: Replaced}), asked: one, want: 0},
		"with what is refused after a long a life": {endings: []ending{{Refused, time.Hour}}, asked: one, want: 30 * time.Second},
	} {
		t.Run(sentence, func(t *testing.T) {
			var g gate
			for _, e := range tc.endings {
				g.ended(one, e.why, e.lasted, noon, tc.luck)
			}
			want := noon.Add(tc.want)
			if tc.want < 0 {
				want = time.Time{}
			}
			if diff := cmp.Diff(want, g.opensAt(tc.asked)); diff != "" {
				t.Errorf("opens (-want +got):\n%s", diff)
			}
		})
	}
}
