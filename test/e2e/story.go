package main

import "github.com/mqtt-token-operator/mqtt-token-operator/test/story"

func plot() []story.Step[*world] {
	return []story.Step[*world]{
		{Title: "A cluster with a node, and images that nobody pulls", Run: (*world).importImages},
		{Title: "The cloud's stand-in, as a pod", Run: (*world).startCloud},
		{Title: "The operator, as its own Deployment under its own rights", Run: (*world).installOperator},
		{Title: "The platform team declares its instances, an application team its grants", Run: (*world).declare},
		{Title: "Pods connect with nothing but the files of their Secrets", Run: (*world).connectClients},
		{Title: "The examples run as they are shipped: many pods with one grant, a grant for each pod, an environment", Run: (*world).runExamples},
		{Title: "A renewal reaches the mounted volume, and the client goes on without a reconnect", Run: (*world).renew},
		{Title: "A consumer that cannot reload is restarted", Run: (*world).restartConsumer},
		{Title: "A narrowed grant cuts off the topic that was lost", Run: (*world).narrow},
		{Title: "A hold cuts the client off, its release lets it back", Run: (*world).hold},
		{Title: "A client with tokens that nobody renews was cut off when they expired, and stays away", Run: (*world).expire},
		{Title: "The operator's pod is killed in the middle of its work", Run: (*world).killOperator},
		{Title: "A grant is deleted: its client is cut off", Run: (*world).deleteGrant},
		{Title: "The namespace is deleted: nothing of it is left, here or at the service", Run: (*world).deleteNamespace},
		{Title: "Looking back", Run: (*world).lookBack},
	}
}
