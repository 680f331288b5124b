package plan

import (
	"errors"
	"fmt"
	"slices"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/topic"
)

// Scopes returns the fewest scopes that cover the permissions exactly, sorted by type. A client presents at most one
// token of each type and a token carries at most token.MaxTopics, so topics with both actions go into one
// publish-and-subscribe token when nothing else is wanted, and else into both of the one-way tokens while they fit.
// It fails on more topics of one kind (publish-only, subscribe-only, both) than a token carries, on none at all, and on
// a permission without a known action.
func Scopes(permissions []token.Permission) ([]token.Scope, error) {
	wanted, err := merge(permissions)
	if err != nil {
		return nil, err
	}
	publish, subscribe, both := wanted[token.Publish], wanted[token.Subscribe], wanted[token.PublishSubscribe]
	oneWay := len(publish)+len(subscribe) > 0
	if oneWay && len(publish)+len(both) <= token.MaxTopics && len(subscribe)+len(both) <= token.MaxTopics {
		wanted = map[token.Type][]topic.Filter{
			token.Publish: append(publish, both...), token.Subscribe: append(subscribe, both...),
		}
	}
	return scopes(wanted)
}

// merge sorts the filters by what is wanted with them; one that is named twice gets the actions of both.
func merge(permissions []token.Permission) (map[token.Type][]topic.Filter, error) {
	actions := map[topic.Filter][]token.Action{}
	unknown := func(a token.Action) bool { return !token.PublishSubscribe.Includes(a) }
	for _, p := range permissions {
		if len(p.Actions) == 0 || slices.ContainsFunc(p.Actions, unknown) {
			return nil, fmt.Errorf("cannot grant actions %q on topic %q", p.Actions, p.Filter)
		}
		actions[p.Filter] = append(actions[p.Filter], p.Actions...)
	}
	kinds := map[token.Type][]topic.Filter{}
	for filter, wanted := range actions { // in any order: a scope sorts its topics
		kind := typeFor(wanted)
		kinds[kind] = append(kinds[kind], filter)
	}
	return kinds, nil
}

// typeFor returns the type that allows exactly the actions.
func typeFor(actions []token.Action) token.Type {
	switch {
	case !slices.Contains(actions, token.ActionSubscribe):
		return token.Publish
	case !slices.Contains(actions, token.ActionPublish):
		return token.Subscribe
	default:
		return token.PublishSubscribe
	}
}

func scopes(topics map[token.Type][]topic.Filter) ([]token.Scope, error) {
	var list []token.Scope
	for _, kind := range []token.Type{token.Publish, token.PublishSubscribe, token.Subscribe} {
		if len(topics[kind]) == 0 {
			continue
		}
		scope, err := token.NewScope(kind, topics[kind]...)
		if err != nil {
			return nil, err
		}
		list = append(list, scope)
	}
	if len(list) == 0 {
		return nil, errors.New("no topics are wanted")
	}
	return list, nil
}
