package main

import "github.com/mqtt-token-operator/mqtt-token-operator/test/story"

func plot() []story.Step[*playground] {
	return []story.Step[*playground]{
		{Title: "A Kubernetes control plane", Run: (*playground).startCluster},
		{Title: "A stand-in for the cloud: token service and MQTT broker", Run: (*playground).startCloud},
		{Title: "The operator, with no more rights than it ships with", Run: (*playground).startManager},
		{Title: "The platform team declares its MQTT instance", Run: (*playground).declareInstance},
		{Title: "An application team asks for tokens", Run: (*playground).askForTokens},
		{Title: "Clients connect with nothing but the files of their Secrets", Run: (*playground).connectClients},
		{Title: "What was not granted is refused by the broker", Run: (*playground).overstep},
		{Title: "What the platform team does not allow is not granted", Run: (*playground).askForTooMuch},
		{Title: "Tokens are renewed before they expire", Run: (*playground).renew},
		{Title: "The client goes on when its first tokens expire", Run: (*playground).outlive},
		{Title: "A grant is deleted: its tokens are revoked, its client cut off", Run: (*playground).deleteGrant},
		{Title: "Looking back", Run: (*playground).lookBack},
	}
}
