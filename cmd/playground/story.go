package main

import "context"

// step is one step of the story.
type step struct {
	title string
	run   func(*playground, context.Context) error
}

func story() []step {
	return []step{
		{"A Kubernetes control plane", (*playground).startCluster},
		{"A stand-in for the cloud: token service and MQTT broker", (*playground).startCloud},
		{"The operator, with no more rights than it ships with", (*playground).startManager},
		{"The platform team declares its MQTT instance", (*playground).declareInstance},
		{"An application team asks for tokens", (*playground).askForTokens},
		{"Clients connect with nothing but the files of their Secrets", (*playground).connectClients},
		{"What was not granted is refused by the broker", (*playground).overstep},
		{"What the platform team does not allow is not granted", (*playground).askForTooMuch},
		{"Tokens are renewed before they expire", (*playground).renew},
		{"The client goes on when its first tokens expire", (*playground).outlive},
		{"A grant is deleted: its tokens are revoked, its client cut off", (*playground).deleteGrant},
		{"Looking back", (*playground).lookBack},
	}
}
