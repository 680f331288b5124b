package tenancy_test

import (
	"fmt"
	"strings"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
)

// deniedByTheRules asks for what no rule allows. The grant says so, in terms of what it asked for alone.
func deniedByTheRules() map[string]func(attack) {
	subscribe := []v1alpha1.Action{v1alpha1.ActionSubscribe}
	topic := func(filter string) func(*v1alpha1.MqttTokenGrant) {
		return func(g *v1alpha1.MqttTokenGrant) { g.Spec.Topics[0].Filter = filter }
	}
	denied := func(name, reason string, change func(*v1alpha1.MqttTokenGrant)) func(attack) {
		return func(a attack) {
			a.create(a.grant(home, name, change))
			asked := fmt.Sprint(a.grant(home, name, change).Spec)
			if text := a.answered(name, reason); strings.Contains(text, victim) && !strings.Contains(asked, victim) {
				a.t.Errorf("the answer tells of the other team: %s", text)
			}
		}
	}
	attacks := map[string]func(attack){
		"the other team's topic":               denied("topic", v1alpha1.ReasonTopicNotAllowed, topic("factory/team-b/press")),
		"everybody's topics":                   denied("all", v1alpha1.ReasonTopicNotAllowed, topic("factory/#")),
		"every topic there is":                 denied("every", v1alpha1.ReasonTopicNotAllowed, topic("#")),
		"every team by a wildcard":             denied("plus", v1alpha1.ReasonTopicNotAllowed, topic("factory/+/press")),
		"the parent of its own topics":         denied("parent", v1alpha1.ReasonTopicNotAllowed, topic("factory")),
		"an empty level before the other team": denied("slash", v1alpha1.ReasonTopicNotAllowed, topic("factory//team-a")),
		"a look-alike of its own namespace":    denied("alike", v1alpha1.ReasonTopicNotAllowed, topic("factory/team-а/press")),
		"to subscribe where it may publish": denied("subscribe", v1alpha1.ReasonTopicNotAllowed, func(g *v1alpha1.MqttTokenGrant) {
			g.Spec.Topics = []v1alpha1.TopicPermission{{Filter: "telemetry/team-a", Actions: subscribe}}
		}),
		"one topic too many among good ones": denied("mixed", v1alpha1.ReasonTopicNotAllowed, func(g *v1alpha1.MqttTokenGrant) {
			g.Spec.Topics = append(g.Spec.Topics, v1alpha1.TopicPermission{Filter: "factory/team-b/press", Actions: subscribe})
		}),
		"a longer validity than the rule's": denied("longer", v1alpha1.ReasonValidityTooLong, func(g *v1alpha1.MqttTokenGrant) { g.Spec.Validity = "48h" }),
		"the other team's device id":        denied("device", v1alpha1.ReasonClientNotAllowed, func(g *v1alpha1.MqttTokenGrant) { g.Spec.Client.DeviceID = "team-b-mine" }),
		"every device of a group":           denied("group", v1alpha1.ReasonClientNotAllowed, func(g *v1alpha1.MqttTokenGrant) { g.Spec.Client.DeviceID = "" }),
		"a group that no rule names":        denied("other-group", v1alpha1.ReasonClientNotAllowed, func(g *v1alpha1.MqttTokenGrant) { g.Spec.Client.GroupID = "GID_office" }),
		"topics of one rule, client of another": denied("cross", v1alpha1.ReasonTopicNotAllowed, func(g *v1alpha1.MqttTokenGrant) {
			g.Spec.Client = v1alpha1.Client{GroupID: "GID_hall", DeviceID: "team-a-cross"}
		}),
	}
	attacks["whether an instance exists elsewhere"] = func(a attack) {
		for _, name := range []string{"private", "missing"} {
			a.create(a.grant(home, "probe-"+name, func(g *v1alpha1.MqttTokenGrant) { g.Spec.InstanceRef.Name = name }))
		}
		there, missing := a.answered("probe-private", v1alpha1.ReasonInstanceNotReady), a.answered("probe-missing", v1alpha1.ReasonInstanceNotReady)
		if strings.ReplaceAll(there, "private", "x") != strings.ReplaceAll(missing, "missing", "x") {
			a.t.Errorf("one answer is %q, the other %q", there, missing)
		}
	}
	attacks["the client id of another team's grant"] = func(a attack) {
		a.create(a.grant(home, "squatter", hall("press-1")))
		if text := a.answered("squatter", v1alpha1.ReasonClientIDConflict); strings.Contains(text, victim) {
			a.t.Errorf("the answer tells whose it is: %s", text)
		}
	}
	attacks["the client id of another team's grant, by an edit"] = func(a attack) {
		a.create(a.grant(home, "turncoat", hall("press-2")))
		a.served(home, "turncoat")
		a.edit("turncoat", hall("press-1"))
		a.answeredAuthorized("turncoat", v1alpha1.ReasonClientIDConflict)
		a.served(victim, "hall")
	}
	attacks["the other team's Secret, by take-over"] = func(a attack) {
		a.create(a.grant(home, "heir", func(g *v1alpha1.MqttTokenGrant) {
			hall("press-1")(g)
			g.Spec.Secret.Name, g.Annotations = "hall", map[string]string{v1alpha1.TakeOverAnnotation: "hall"}
		}))
		a.answered("heir", v1alpha1.ReasonClientIDConflict)
	}
	return attacks
}
