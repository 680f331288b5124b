package mqttcred_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mqtt-token-operator/mqtt-token-operator/pkg/mqttcred"
)

func TestClientIDFor(t *testing.T) {
	long := strings.Repeat("press-", 20)
	for sentence, tc := range map[string]struct {
		credentials mqttcred.Credentials
		name, want  string
	}{
		"a grant for a device has one already":    {mqttcred.Credentials{ClientID: "GID_a@@@one", GroupID: "GID_a"}, "pod-1", "GID_a@@@one"},
		"the name tells clients of a group apart": {mqttcred.Credentials{GroupID: "GID_a"}, "pod-1", "GID_a@@@pod-1"},
		"what no client id may hold becomes '-'":  {mqttcred.Credentials{GroupID: "GID_a"}, "pod.1/ä#+", "GID_a@@@pod-1----"},
		"as long as it may be":                    {mqttcred.Credentials{GroupID: "GID_a"}, long[:56], "GID_a@@@" + long[:56]},
		"one more is cut, with a hash of all of it": {
			mqttcred.Credentials{GroupID: "GID_a"}, long[:57], "GID_a@@@press-press-press-press-press-press-press-press-45cdd804",
		},
		"of a long group id there is room for the hash alone": {
			mqttcred.Credentials{GroupID: "GID_" + strings.Repeat("a", 48)}, long[:57], "GID_" + strings.Repeat("a", 48) + "@@@-45cdd804",
		},
		"of a longer one for some of it": {
			mqttcred.Credentials{GroupID: "GID_" + strings.Repeat("a", 52)}, long[:57], "GID_" + strings.Repeat("a", 52) + "@@@45cdd",
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, tc.credentials.ClientIDFor(tc.name)); diff != "" {
				t.Errorf("client id (-want +got):\n%s", diff)
			}
		})
	}
}

func FuzzClientIDFor(f *testing.F) {
	f.Add("GID_a", "pod-1", "pod-2")
	f.Add("GID_a", strings.Repeat("x", 80), strings.Repeat("x", 81))
	f.Add("GID_ab", "ä.b", "\xff")
	f.Add("GID_"+strings.Repeat("x", 56), "pod-1", "pod-2")
	valid := regexp.MustCompile(`^[A-Za-z0-9_-]*$`)
	f.Fuzz(func(t *testing.T, group, one, other string) {
		if len(group) > 60 || !valid.MatchString(group) {
			t.Skip("no group id")
		}
		credentials := mqttcred.Credentials{GroupID: group}
		id, again := credentials.ClientIDFor(one), credentials.ClientIDFor(one)
		device, found := strings.CutPrefix(id, group+"@@@")
		if id != again || !found || len(id) > mqttcred.MaxClientID || !valid.MatchString(device) {
			t.Errorf("%q becomes %q, then %q", one, id, again)
		}
		if rareTwins := len(group) <= 52; rareTwins && one != other && valid.MatchString(one) && valid.MatchString(other) && id == credentials.ClientIDFor(other) {
			t.Errorf("%q and %q both become %q", one, other, id)
		}
	})
}
