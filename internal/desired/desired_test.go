package desired_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/desired"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
	"github.com/mqtt-token-operator/mqtt-token-operator/test/gen"
)

const (
	publish   = v1alpha1.ActionPublish
	subscribe = v1alpha1.ActionSubscribe
)

func TestFromGrant(t *testing.T) {
	for sentence, tc := range map[string]struct {
		modify                        gen.GrantModifier
		wantValidity, wantRenewBefore time.Duration
		wantOverlap                   time.Duration
		wantScopes                    map[token.Type]int
	}{
		"the defaults": {
			modify:       func(*v1alpha1.MqttTokenGrant) {},
			wantValidity: 24 * time.Hour, wantRenewBefore: 8 * time.Hour, wantOverlap: 5 * time.Minute,
			wantScopes: map[token.Type]int{token.PublishSubscribe: 1},
		},
		"the shortest of all": {
			modify: func(g *v1alpha1.MqttTokenGrant) {
				g.Spec.Validity, g.Spec.RenewBefore, g.Spec.Overlap = "2m", "10s", "0s"
			},
			wantValidity: 2 * time.Minute, wantRenewBefore: 10 * time.Second,
			wantScopes: map[token.Type]int{token.PublishSubscribe: 1},
		},
		"the longest of all": {
			modify: func(g *v1alpha1.MqttTokenGrant) {
				g.Spec.Validity, g.Spec.RenewBefore, g.Spec.Overlap = "720h", "576h", "60m"
			},
			wantValidity: 720 * time.Hour, wantRenewBefore: 576 * time.Hour, wantOverlap: time.Hour,
			wantScopes: map[token.Type]int{token.PublishSubscribe: 1},
		},
		"a percentage": {
			modify:       gen.WithRenewBeforePercentage(80),
			wantValidity: 24 * time.Hour, wantRenewBefore: 24 * time.Hour * 80 / 100, wantOverlap: 5 * time.Minute,
			wantScopes: map[token.Type]int{token.PublishSubscribe: 1},
		},
		"topics of each kind": {
			modify:       gen.WithTopics(gen.Topic("a", publish), gen.Topic("b/#", subscribe), gen.Topic("c", subscribe, publish)),
			wantValidity: 24 * time.Hour, wantRenewBefore: 8 * time.Hour, wantOverlap: 5 * time.Minute,
			wantScopes: map[token.Type]int{token.Publish: 2, token.Subscribe: 2},
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			got, err := desired.FromGrant(&gen.Grant("press-07", tc.modify).Spec)
			if err != nil {
				t.Fatal(err)
			}
			if got.Validity != tc.wantValidity || got.RenewBefore != tc.wantRenewBefore || got.Overlap != tc.wantOverlap {
				t.Errorf("validity %s, renewBefore %s, overlap %s", got.Validity, got.RenewBefore, got.Overlap)
			}
			scopes := map[token.Type]int{}
			for _, s := range got.Scopes {
				scopes[s.Type] = len(s.Topics)
			}
			if diff := cmp.Diff(tc.wantScopes, scopes); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestFromGrantNamesTheFieldAndSaysWhatToChange(t *testing.T) {
	var tooMany []v1alpha1.TopicPermission
	for i := range token.MaxTopics + 1 {
		tooMany = append(tooMany, gen.Topic(fmt.Sprint("a/", i), publish))
	}
	for sentence, tc := range map[string]struct {
		modify      gen.GrantModifier
		field, says string
	}{
		"no topic":                      {gen.WithTopics(), "spec.topics", "at least one"},
		"more topics than a token":      {gen.WithTopics(tooMany...), "spec.topics", "100"},
		"a comma":                       {gen.WithTopics(gen.Topic("a,secret/#", publish)), "spec.topics", "','"},
		"a bar":                         {gen.WithTopics(gen.Topic("a|b", publish)), "spec.topics", "'|'"},
		"a control character":           {gen.WithTopics(gen.Topic("a\nb", publish)), "spec.topics", "control"},
		"a topic of the broker":         {gen.WithTopics(gen.Topic("$SYS/#", publish)), "spec.topics", "$"},
		"an empty filter":               {gen.WithTopics(gen.Topic("", publish)), "spec.topics", "empty"},
		"no action":                     {gen.WithTopics(gen.Topic("a")), "spec.topics", "add Publish"},
		"an unknown action":             {gen.WithTopics(gen.Topic("a", "Delete")), "spec.topics", "neither Publish nor Subscribe"},
		"a validity that is a fruit":    {gen.WithValidity("banana"), "spec.validity", "such as"},
		"no validity":                   {gen.WithValidity(""), "spec.validity", "such as"},
		"days":                          {gen.WithValidity("1d"), "spec.validity", "such as"},
		"a negative validity":           {gen.WithValidity("-24h"), "spec.validity", "between"},
		"more than 64 bits of validity": {gen.WithValidity("9999999999h"), "spec.validity", "such as"},
		"a validity too short":          {gen.WithValidity("119s"), "spec.validity", "between 2m"},
		"a validity too long":           {gen.WithValidity("721h"), "spec.validity", "between 2m"},
		"an overlap that is a fruit":    {gen.WithOverlap("banana"), "spec.overlap", "such as"},
		"a negative overlap":            {gen.WithOverlap("-1s"), "spec.overlap", "between"},
		"an overlap too long":           {gen.WithOverlap("61m"), "spec.overlap", "between"},
		"a renewBefore that is a fruit": {gen.WithRenewBefore("banana"), "spec.renewBefore", "such as"},
		"a renewBefore too short":       {gen.WithRenewBefore("9s"), "spec.renewBefore", "between 10s"},
		"a renewBefore over 80 %":       {gen.WithRenewBefore("20h"), "spec.renewBefore", "19h12m"},
		"a percentage over 80":          {gen.WithRenewBeforePercentage(81), "spec.renewBeforePercentage", "between 1 and 80"},
		"a negative percentage":         {gen.WithRenewBeforePercentage(-1), "spec.renewBeforePercentage", "between 1 and 80"},
		"a percentage of next to nothing": {
			func(g *v1alpha1.MqttTokenGrant) { g.Spec.Validity, g.Spec.RenewBeforePercentage = "2m", 1 },
			"spec.renewBeforePercentage", "choose more",
		},
		"renewBefore twice": {
			func(g *v1alpha1.MqttTokenGrant) { g.Spec.RenewBefore, g.Spec.RenewBeforePercentage = "1h", 10 },
			"spec.renewBefore", "not both",
		},
		"a group id without prefix":      {gen.WithClient("line_a", "d"), "spec.client.groupID", "GID_"},
		"a group id that is the prefix":  {gen.WithClient("GID_", "d"), "spec.client.groupID", "GID_"},
		"a group id with a device in it": {gen.WithClient("GID_a@@@victim", ""), "spec.client.groupID", "only"},
		"a device id with a wildcard":    {gen.WithClient("GID_a", "+"), "spec.client.deviceID", "only"},
		"a client id too long":           {gen.WithClient("GID_a", strings.Repeat("d", 57)), "spec.client", "shorten"},
	} {
		t.Run(sentence, func(t *testing.T) {
			_, err := desired.FromGrant(&gen.Grant("press-07", tc.modify).Spec)
			if err == nil {
				t.Fatal("accepted")
			}
			if text := err.Error(); !strings.HasPrefix(text, tc.field+":") || !strings.Contains(text, tc.says) {
				t.Errorf("error %q must begin with %s and say %q", text, tc.field, tc.says)
			}
		})
	}
}

func TestNames(t *testing.T) {
	plain := gen.Grant("press-07")
	other := gen.Grant("press-07", gen.WithSecretName("mqtt"), gen.WithInstance("mqtt-system", "plant"), gen.WithClient("GID_line_a", ""))
	for sentence, tc := range map[string]struct{ got, want any }{
		"a client id":                          {desired.ClientID(plain.Spec.Client), "GID_line_a@@@press-07"},
		"a group instead of a client id":       {desired.ClientID(other.Spec.Client), "GID_line_a"},
		"the Secret is named like the grant":   {desired.SecretName(plain), "press-07"},
		"the Secret is named as the spec says": {desired.SecretName(other), "mqtt"},
		"the instance is in the namespace of the grant": {
			desired.InstanceKey(plain), types.NamespacedName{Namespace: gen.DefaultNamespace, Name: "factory"},
		},
		"the instance is elsewhere": {desired.InstanceKey(other), types.NamespacedName{Namespace: "mqtt-system", Name: "plant"}},
	} {
		t.Run(sentence, func(t *testing.T) {
			if tc.got != tc.want {
				t.Errorf("%v, want %v", tc.got, tc.want)
			}
		})
	}
}

// What is accepted holds single topics only, whatever was written past the schema.
func FuzzFromGrant(f *testing.F) {
	f.Add("GID_line_a", "press-07", "a/#", "Publish", "24h", "8h", "5m", int32(0))
	f.Add("GID_a@@@b", "", "a,b", "Subscribe", "banana", "", "-1s", int32(80))
	f.Add("GID-a", "d", "+/a|b", "publish", "9999999999h", "1d", "", int32(-1))
	f.Fuzz(func(t *testing.T, group, device, filter, action, validity, renewBefore, overlap string, percentage int32) {
		grant := gen.Grant("press-07", gen.WithClient(group, device), gen.WithTopics(gen.Topic(filter, v1alpha1.Action(action))),
			gen.WithValidity(validity), gen.WithRenewBefore(renewBefore), gen.WithOverlap(overlap), gen.WithRenewBeforePercentage(percentage))
		got, err := desired.FromGrant(&grant.Spec)
		if err != nil {
			return
		}
		if len(got.Scopes) != 1 || len(got.Scopes[0].Topics) != 1 || got.Scopes[0].Topics[0].String() != filter || strings.ContainsAny(filter, ",|\n") {
			t.Errorf("%q became %v", filter, got.Scopes)
		}
		if got.RenewBefore <= 0 || got.RenewBefore > got.Validity*8/10 || got.Overlap < 0 {
			t.Errorf("validity %s, renewBefore %s, overlap %s", got.Validity, got.RenewBefore, got.Overlap)
		}
		if id := desired.ClientID(grant.Spec.Client); len(id) > 64 || strings.Count(id, "@") > 3 {
			t.Errorf("client id %q", id)
		}
	})
}
