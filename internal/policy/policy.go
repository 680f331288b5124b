// Package policy decides whether an instance's access rules allow what a grant asks for. It denies by default and
// judges the parsed filters that are sent to the service, not their text.
package policy

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/topic"
)

// Rule allows some clients some topics.
type Rule struct {
	// AppliesToNamespace says that the rule picks the grant's namespace; the caller knows the namespaces' labels.
	AppliesToNamespace bool
	// GroupIDs are patterns; one of them must match the group id. They may use {namespace}.
	GroupIDs []string
	// DeviceIDs are patterns; one of them must match the device id, unless there are none. They may use {namespace} and
	// {groupID}.
	DeviceIDs []string
	// AllowGroupGrants lets grants without a device id match, whatever DeviceIDs say.
	AllowGroupGrants bool
	// Topics that the rule allows.
	Topics []TopicRule
	// MaxValidity bounds the validity of a grant that uses the rule; zero is no bound.
	MaxValidity time.Duration
}

// TopicRule allows actions on whatever the filter covers. The filter may use {namespace}, {groupID} and {deviceID}.
type TopicRule struct {
	Filter  string
	Actions []token.Action
}

// Request is what a grant asks for.
type Request struct {
	Namespace string
	GroupID   string
	DeviceID  string // empty: every client of the group
	Topics    []token.Permission
	Validity  time.Duration
}

// permit is one action on one filter that the rules allow this client, for as long as limit.
type permit struct {
	filter topic.Filter
	action token.Action
	limit  time.Duration
}

const unlimited = time.Duration(math.MaxInt64)

// Check returns what the rules do not allow, in the order of the request's topics; nothing means that all is allowed.
//
// A rule counts if it matches namespace, group and device. Each action on each topic must be covered by one topic rule
// of one rule that counts; the two actions of a topic may rest on different ones, and several that only together cover
// a filter do not. Where several rules cover the same, the one with the longest MaxValidity is used, so that a
// grant is allowed if any choice allows it; of the rules used, the smallest bound applies. An added rule thus
// never takes anything away.
func Check(rules []Rule, request Request) []Violation {
	applicable := matching(rules, func(r Rule) bool { return r.AppliesToNamespace })
	if len(applicable) == 0 {
		return []Violation{namespaceNotAllowed(request)}
	}
	applicable = matching(applicable, request.matches)
	if len(applicable) == 0 {
		return []Violation{clientNotAllowed(request)}
	}
	return request.check(permits(applicable, request))
}

func matching(rules []Rule, keep func(Rule) bool) []Rule {
	var kept []Rule
	for _, r := range rules {
		if keep(r) {
			kept = append(kept, r)
		}
	}
	return kept
}

// matches reports whether the rule is for the request's client.
func (q Request) matches(r Rule) bool {
	group := variables{"namespace": q.Namespace}
	device := variables{"namespace": q.Namespace, "groupID": q.GroupID}
	switch {
	case q.GroupID == "" || !anyMatches(r.GroupIDs, group, q.GroupID):
		return false
	case q.DeviceID == "":
		return r.AllowGroupGrants
	default:
		return len(r.DeviceIDs) == 0 || anyMatches(r.DeviceIDs, device, q.DeviceID)
	}
}

func anyMatches(patterns []string, values variables, text string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		expanded, ok := values.expand(pattern)
		return ok && matchesPattern(expanded, text)
	})
}

// permits spells the rules out for the request's client, the longest limit first.
func permits(rules []Rule, q Request) []permit {
	values := variables{"namespace": q.Namespace, "groupID": q.GroupID, "deviceID": q.DeviceID}
	var list []permit
	for _, r := range rules {
		limit := r.MaxValidity
		if limit == 0 {
			limit = unlimited
		}
		for _, t := range r.Topics {
			filter, ok := values.filter(t.Filter)
			if !ok {
				continue
			}
			for _, action := range t.Actions {
				list = append(list, permit{filter: filter, action: action, limit: limit})
			}
		}
	}
	slices.SortStableFunc(list, func(a, b permit) int { return cmp.Compare(b.limit, a.limit) })
	return list
}

// check holds the request's topics and validity against the permits.
func (q Request) check(allowed []permit) []Violation {
	var violations []Violation
	limit := unlimited
	for _, t := range q.Topics {
		denied, longest := judge(t, allowed)
		if len(denied) > 0 || len(t.Actions) == 0 {
			violations = append(violations, topicNotAllowed(t.Filter, denied))
		}
		limit = min(limit, longest)
	}
	if q.Validity > limit {
		violations = append(violations, validityTooLong(q.Validity, limit))
	}
	return violations
}

// judge returns the actions that no permit covers, and the bound on the validity that comes with the others.
func judge(p token.Permission, allowed []permit) (denied []token.Action, limit time.Duration) {
	limit = unlimited
	for _, action := range p.Actions {
		covers := func(a permit) bool { return a.action == action && a.filter.Covers(p.Filter) }
		first := slices.IndexFunc(allowed, covers) // the longest limit: they are sorted by it
		if first < 0 || !token.PublishSubscribe.Includes(action) {
			denied = append(denied, action)
			continue
		}
		limit = min(limit, allowed[first].limit)
	}
	return denied, limit
}

// matchesPattern reports whether text is pattern with each '*' replaced by any run of characters. It takes the first
// place where each part fits, which loses no match and needs no way back.
func matchesPattern(pattern, text string) bool {
	parts := strings.Split(pattern, "*")
	last := len(parts) - 1
	if last == 0 {
		return pattern == text
	}
	text, begins := strings.CutPrefix(text, parts[0])
	text, ends := strings.CutSuffix(text, parts[last])
	if !begins || !ends {
		return false
	}
	for _, part := range parts[1:last] {
		_, rest, found := strings.Cut(text, part)
		if !found {
			return false
		}
		text = rest
	}
	return true
}
