package plan

import (
	"slices"
	"time"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/topic"
)

// Permission is one topic filter and what is wanted with it.
type Permission struct {
	Filter  topic.Filter
	Actions []token.Action
}

// Scopes returns the fewest scopes that cover the permissions exactly, sorted by type. A client presents at most one
// token of each type and a token carries at most token.MaxTopics, so topics with both actions go into one
// publish-and-subscribe token when nothing else is wanted, and else into both of the one-way tokens while they fit.
// It fails on permissions that no three tokens can carry.
func Scopes(permissions []Permission) ([]token.Scope, error) {
	var publish, subscribe, both []topic.Filter
	for _, p := range permissions {
		switch {
		case slices.Contains(p.Actions, token.ActionPublish) && slices.Contains(p.Actions, token.ActionSubscribe):
			both = append(both, p.Filter)
		case slices.Contains(p.Actions, token.ActionPublish):
			publish = append(publish, p.Filter)
		default:
			subscribe = append(subscribe, p.Filter)
		}
	}
	oneWay := len(publish)+len(subscribe) > 0
	if oneWay && len(both) > 0 && len(publish)+len(both) <= token.MaxTopics && len(subscribe)+len(both) <= token.MaxTopics {
		publish, subscribe, both = append(publish, both...), append(subscribe, both...), nil
	}
	return scopes(map[token.Type][]topic.Filter{
		token.Publish: publish, token.Subscribe: subscribe, token.PublishSubscribe: both,
	})
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
	return list, nil
}

// Exceeds reports whether a token with the old scope lets its bearer do something that none of the wanted scopes
// allows. A filter counts as allowed when one wanted filter covers it alone; what only several cover together counts
// as exceeding, which errs on the side of revoking.
func Exceeds(old token.Scope, wanted []token.Scope) bool {
	for _, action := range old.Type.Actions() {
		for _, filter := range old.Topics {
			allowed := func(s token.Scope) bool { return s.Allows(action, filter) }
			if !slices.ContainsFunc(wanted, allowed) {
				return true
			}
		}
	}
	return false
}

// RevokeAt is when a token of an older generation must be revoked, now that the wanted scopes replace it: never (zero)
// if it allows nothing more, or else after the overlap. An earlier moment on record stands.
func RevokeAt(onRecord time.Time, exceeds bool, now time.Time, overlap time.Duration) time.Time {
	if !exceeds {
		return onRecord
	}
	return earliest(onRecord, now.Add(overlap).Truncate(time.Second))
}
