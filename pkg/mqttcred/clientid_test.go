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
			mqttcred.Credentials{GroupID: "GID_" + strings.Repeat("a", 52)}, long[:57], "GID_" + strings.Repeat("a", 52) + "@@@dd804",
		},
		"a client of a group must have a name":    {mqttcred.Credentials{GroupID: "GID_a"}, "", ""},
		"a group id may be too long for any name": {mqttcred.Credentials{GroupID: "GID_" + strings.Repeat("a", 57)}, "x", ""},
	} {
		t.Run(sentence, func(t *testing.T) {
			got, err := tc.credentials.ClientIDFor(tc.name)
			if diff := cmp.Diff(tc.want, got); diff != "" || (err == nil) != (tc.want != "") {
				t.Errorf("client id (-want +got), %v:\n%s", err, diff)
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
		if len(group) > 60 || !valid.MatchString(group) || one == "" || other == "" {
			t.Skip("no group id, or no name")
		}
		id, again, another := clientID(t, group, one), clientID(t, group, one), clientID(t, group, other)
		device, found := strings.CutPrefix(id, group+"@@@")
		if id != again || !found || len(id) > mqttcred.MaxClientID || !valid.MatchString(device) {
			t.Errorf("%q becomes %q, then %q", one, id, again)
		}
		if rareTwins := len(group) <= 52; rareTwins && one != other && valid.MatchString(one) && valid.MatchString(other) && id == another {
			t.Errorf("%q and %q both become %q", one, other, id)
		}
	})
}

func clientID(t *testing.T, group, name string) string {
	t.Helper()
	id, err := mqttcred.Credentials{GroupID: group}.ClientIDFor(name)
	if err != nil {
		t.Fatal(err)
	}
	return id
}
