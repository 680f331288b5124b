// Package desired turns API objects into what the decision and the policy judge. It is pure, and it trusts nothing that
// the schema should have refused: a grant may have been written before a rule existed.
package desired

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/plan"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/policy"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/topic"
)

const (
	minValidity    = 2 * time.Minute
	maxValidity    = 720 * time.Hour
	minRenewBefore = 10 * time.Second
	maxOverlap     = time.Hour
	maxClientID    = 64

	maxRenewPercentage = 80
)

// Grant is a grant's spec, understood.
type Grant struct {
	Permissions []token.Permission
	Scopes      []token.Scope
	Validity    time.Duration
	RenewBefore time.Duration
	Overlap     time.Duration
}

// FromGrant understands a grant's spec. Its errors name the field and say what to change.
func FromGrant(spec *v1alpha1.MqttTokenGrantSpec) (Grant, error) {
	var g Grant
	if err := checkClient(spec.Client); err != nil {
		return Grant{}, err
	}
	if len(spec.Topics) == 0 {
		return Grant{}, errors.New("spec.topics: name at least one topic")
	}
	var err error
	if g.Permissions, err = permissions(spec.Topics); err != nil {
		return Grant{}, err
	}
	if g.Scopes, err = plan.Scopes(g.Permissions); err != nil {
		return Grant{}, fmt.Errorf("spec.topics: %w", err)
	}
	if g.Validity, err = duration("spec.validity", spec.Validity, minValidity, maxValidity); err != nil {
		return Grant{}, err
	}
	if g.Overlap, err = duration("spec.overlap", spec.Overlap, 0, maxOverlap); err != nil {
		return Grant{}, err
	}
	if g.RenewBefore, err = renewBefore(spec, g.Validity); err != nil {
		return Grant{}, err
	}
	return g, nil
}

// checkClient refuses what could pass for another client id: the schema's rules, once more.
func checkClient(client v1alpha1.Client) error {
	name, hasPrefix := strings.CutPrefix(client.GroupID, "GID_")
	if !hasPrefix {
		name, hasPrefix = strings.CutPrefix(client.GroupID, "GID-")
	}
	switch {
	case !hasPrefix || name == "" || strings.ContainsFunc(name, notInID):
		return fmt.Errorf("spec.client.groupID: %q must be GID_ or GID- and then letters, digits, '-' and '_' only", client.GroupID)
	case strings.ContainsFunc(client.DeviceID, notInID):
		return fmt.Errorf("spec.client.deviceID: %q may hold letters, digits, '-' and '_' only", client.DeviceID)
	case len(ClientID(client)) > maxClientID:
		return fmt.Errorf("spec.client: the client id %q is longer than %d characters: shorten groupID or deviceID", ClientID(client), maxClientID)
	}
	return nil
}

func notInID(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
}

func permissions(topics []v1alpha1.TopicPermission) ([]token.Permission, error) {
	var list []token.Permission
	for _, t := range topics {
		filter, err := topic.Parse(t.Filter)
		if err != nil {
			return nil, fmt.Errorf("spec.topics: %w", err)
		}
		p := token.Permission{Filter: filter}
		for _, action := range t.Actions {
			parsed, err := parseAction(action)
			if err != nil {
				return nil, fmt.Errorf("spec.topics: %q: %w", t.Filter, err)
			}
			p.Actions = append(p.Actions, parsed)
		}
		if len(p.Actions) == 0 {
			return nil, fmt.Errorf("spec.topics: %q has no actions: add Publish, Subscribe or both", t.Filter)
		}
		list = append(list, p)
	}
	return list, nil
}

func parseAction(action v1alpha1.Action) (token.Action, error) {
	switch action {
	case v1alpha1.ActionPublish:
		return token.ActionPublish, nil
	case v1alpha1.ActionSubscribe:
		return token.ActionSubscribe, nil
	}
	return "", fmt.Errorf("%q is neither Publish nor Subscribe", action)
}

func duration(field, text string, least, most time.Duration) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, fmt.Errorf("%s: %q is not a duration such as 90m or 24h", field, text)
	}
	if d < least || d > most {
		return 0, fmt.Errorf("%s: %s is not between %s and %s", field, text, least, most)
	}
	return d, nil
}

// renewBefore is the explicit one, the percentage, or a third of the validity.
func renewBefore(spec *v1alpha1.MqttTokenGrantSpec, validity time.Duration) (time.Duration, error) {
	percentage := spec.RenewBeforePercentage
	switch {
	case spec.RenewBefore != "" && percentage != 0:
		return 0, errors.New("spec.renewBefore: set it or renewBeforePercentage, not both")
	case spec.RenewBefore != "":
		return duration("spec.renewBefore", spec.RenewBefore, minRenewBefore, validity*maxRenewPercentage/100)
	case percentage == 0:
		return validity / 3, nil
	case percentage < 1 || percentage > maxRenewPercentage:
		return 0, fmt.Errorf("spec.renewBeforePercentage: %d is not between 1 and %d", percentage, maxRenewPercentage)
	}
	share := validity * time.Duration(percentage) / 100
	if share < minRenewBefore {
		return 0, fmt.Errorf("spec.renewBeforePercentage: %d %% of %s is less than %s: choose more", percentage, validity, minRenewBefore)
	}
	return share, nil
}

// ClientID is the MQTT client id that the grant is for; without a device id it is the group id alone.
func ClientID(client v1alpha1.Client) string {
	if client.DeviceID == "" {
		return client.GroupID
	}
	return client.GroupID + "@@@" + client.DeviceID
}

// SecretName is the name of the Secret that the grant's tokens go to.
func SecretName(grant *v1alpha1.MqttTokenGrant) string {
	if grant.Spec.Secret.Name != "" {
		return grant.Spec.Secret.Name
	}
	return grant.Name
}

// InstanceKey is the name of the MqttInstance that the grant refers to.
func InstanceKey(grant *v1alpha1.MqttTokenGrant) types.NamespacedName {
	key := types.NamespacedName{Namespace: grant.Spec.InstanceRef.Namespace, Name: grant.Spec.InstanceRef.Name}
	if key.Namespace == "" {
		key.Namespace = grant.Namespace
	}
	return key
}

// Request is what the access rules judge.
func (g Grant) Request(grant *v1alpha1.MqttTokenGrant) policy.Request {
	return policy.Request{
		Namespace: grant.Namespace, GroupID: grant.Spec.Client.GroupID, DeviceID: grant.Spec.Client.DeviceID,
		Topics: g.Permissions, Validity: g.Validity,
	}
}

// Rules turns an instance's access rules into what the policy judges, for grants of one namespace with its labels. A
// rule that cannot be understood allows nothing; it is left out.
func Rules(instance *v1alpha1.MqttInstance, namespace string, namespaceLabels map[string]string) []policy.Rule {
	var rules []policy.Rule
	for _, r := range instance.Spec.AccessRules {
		rule := policy.Rule{
			AppliesToNamespace: applies(r.Namespaces, instance.Namespace, namespace, namespaceLabels),
			GroupIDs:           r.GroupIDs,
			DeviceIDs:          r.DeviceIDs,
			AllowGroupGrants:   ptr.Deref(r.AllowGroupGrants, false),
		}
		if r.MaxValidity != "" {
			bound, err := duration("maxValidity", r.MaxValidity, minValidity, maxValidity)
			if err != nil {
				continue
			}
			rule.MaxValidity = bound
		}
		for _, t := range r.Topics {
			rule.Topics = append(rule.Topics, policy.TopicRule{Filter: t.Filter, Actions: knownActions(t.Actions)})
		}
		rules = append(rules, rule)
	}
	return rules
}

func knownActions(actions []v1alpha1.Action) []token.Action {
	var known []token.Action
	for _, action := range actions {
		if parsed, err := parseAction(action); err == nil {
			known = append(known, parsed)
		}
	}
	return known
}

func applies(n v1alpha1.RuleNamespaces, own, namespace string, namespaceLabels map[string]string) bool {
	switch n.From {
	case v1alpha1.NamespacesAll:
		return true
	case v1alpha1.NamespacesSame:
		return namespace == own
	case v1alpha1.NamespacesSelector:
		if n.Selector == nil {
			return false
		}
		selector, err := metav1.LabelSelectorAsSelector(n.Selector)
		return err == nil && matches(selector, namespace, namespaceLabels)
	}
	return false
}

// matches reports whether a selector picks a namespace. Each namespace has its name for a label, so that one without any
// is one whose labels are not known: all that can be said of it is its name, and a selector that asks for more picks it
// not, lest one that excludes some namespaces let in all of them.
func matches(selector labels.Selector, namespace string, namespaceLabels map[string]string) bool {
	if len(namespaceLabels) > 0 {
		return selector.Matches(labels.Set(namespaceLabels))
	}
	requirements, _ := selector.Requirements()
	asksForMore := func(r labels.Requirement) bool { return r.Key() != nameLabel }
	return !slices.ContainsFunc(requirements, asksForMore) && selector.Matches(labels.Set{nameLabel: namespace})
}

// nameLabel is the label that the API server keeps on each namespace.
const nameLabel = "kubernetes.io/metadata.name"
