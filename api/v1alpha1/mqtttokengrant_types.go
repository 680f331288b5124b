package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Annotations that people put on a grant.
const (
	// ReissueAnnotation asks for new tokens now: each new value is acted on once.
	ReissueAnnotation = GroupName + "/reissue"
	// ReissuePolicyAnnotation says what a reissue does with the tokens before it: ReissuePolicyRevoke, or nothing.
	ReissuePolicyAnnotation = GroupName + "/reissue-policy"
	// HoldAnnotation cuts the client off for as long as it is there: every token is revoked, none is issued. Its value is
	// the reason, for people.
	HoldAnnotation = GroupName + "/hold"
	// AllowRestartAnnotation, on a workload, names the grants that may restart it, by commas; "*" stands for any of its
	// namespace.
	AllowRestartAnnotation = GroupName + "/allow-restart"
	// RestartedForAnnotation, on a workload's pod template, says when the tokens were issued that it was restarted for, and
	// RestartedAtAnnotation, on the workload, when that was; both in RFC 3339.
	RestartedForAnnotation = GroupName + "/restarted-for"
	RestartedAtAnnotation  = GroupName + "/restarted-at"
	// TakeOverAnnotation names another grant of the namespace, whose Secret this one adopts with the tokens in it.
	TakeOverAnnotation = GroupName + "/take-over"
)

// ReissuePolicyRevoke has a reissue revoke the tokens before it at once, instead of leaving them to expire.
const ReissuePolicyRevoke = "Revoke"

// GrantFinalizer keeps a deleted grant until its tokens are revoked or in the ledger. Its Secret carries it too: the
// tokens in it must not go before somebody else knows them.
const GrantFinalizer = GroupName + "/revoke"

// Action is what a client may do with a topic.
//
// +kubebuilder:validation:Enum=Publish;Subscribe
type Action string

// The two actions.
const (
	ActionPublish   Action = "Publish"
	ActionSubscribe Action = "Subscribe"
)

// SecretFormat selects the keys of the token Secret.
//
// +kubebuilder:validation:Enum=Files;Env
type SecretFormat string

// The two formats.
const (
	// SecretFormatFiles has one key per file, for mounting as a volume.
	SecretFormatFiles SecretFormat = "Files"
	// SecretFormatEnv has environment variable names as keys, for envFrom.
	SecretFormatEnv SecretFormat = "Env"
)

// DeletionPolicy says what happens to the tokens of a deleted grant.
//
// +kubebuilder:validation:Enum=Revoke;Abandon
type DeletionPolicy string

// The two deletion policies.
const (
	// DeletionPolicyRevoke revokes every live token.
	DeletionPolicyRevoke DeletionPolicy = "Revoke"
	// DeletionPolicyAbandon leaves the current tokens to expire.
	DeletionPolicyAbandon DeletionPolicy = "Abandon"
)

// WorkloadKind is a kind of workload whose pods can be replaced.
//
// +kubebuilder:validation:Enum=Deployment;StatefulSet;DaemonSet
type WorkloadKind string

// The kinds of workload.
const (
	WorkloadDeployment  WorkloadKind = "Deployment"
	WorkloadStatefulSet WorkloadKind = "StatefulSet"
	WorkloadDaemonSet   WorkloadKind = "DaemonSet"
)

// RolloutTarget is a workload whose pods read tokens only when they start.
type RolloutTarget struct {
	// kind of the workload: Deployment, StatefulSet or DaemonSet.
	// +required
	Kind WorkloadKind `json:"kind,omitempty"`

	// name of the workload, in the grant's namespace.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name,omitempty"`
}

// InstanceReference names an MqttInstance.
type InstanceReference struct {
	// name of the MqttInstance.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name,omitempty"`

	// namespace of the MqttInstance; the grant's own when left out. An instance in another namespace serves this grant
	// only if one of its accessRules says so.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Namespace string `json:"namespace,omitempty"`
}

// Client says who will present the tokens. The service binds a token to topics and actions, not to a client id.
//
// +kubebuilder:validation:XValidation:rule="!has(self.deviceID) || size(self.groupID) + 3 + size(self.deviceID) <= 64",message="groupID, '@@@' and deviceID together must not exceed 64 characters: shorten the deviceID or the groupID"
type Client struct {
	// groupID is the client group, created at the service beforehand: GID_ or GID-, then letters, digits, '-' and '_';
	// 7 to 60 characters: the service knows longer ones, but a client id has 64, and '@@@' and a name in it.
	// +required
	// +kubebuilder:validation:MinLength=7
	// +kubebuilder:validation:MaxLength=60
	// +kubebuilder:validation:XValidation:rule="self.matches('^GID[_-][A-Za-z0-9_-]+$')",message="must begin with GID_ or GID- and go on with letters, digits, '-' and '_' only"
	GroupID string `json:"groupID,omitempty"`

	// deviceID makes the client id <groupID>@@@<deviceID>, at most 64 characters in all. Left out, the grant serves every
	// client of the group, which the instance's accessRules must allow with allowGroupGrants.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=57
	// +kubebuilder:validation:XValidation:rule="self.matches('^[A-Za-z0-9_-]+$')",message="may hold letters, digits, '-' and '_' only"
	DeviceID string `json:"deviceID,omitempty"`
}

// TopicPermission is one topic filter and what the client may do with it.
type TopicPermission struct {
	// filter is an MQTT topic filter of 1 to 64 characters, parent topic included: '+' stands for one level, a trailing
	// '#' for any number.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="!self.contains(',') && !self.contains('|')",message="must not contain ',' or '|': write one list item per topic"
	// +kubebuilder:validation:XValidation:rule="!self.startsWith('$')",message="must not begin with '$': those topics belong to the broker"
	// +kubebuilder:validation:XValidation:rule="!self.matches('[\\\\p{Cc}\\\\x{FFFD}]')",message="must not contain control characters"
	// +kubebuilder:validation:XValidation:rule="!self.matches('(?s:#.|[^/]#)')",message="'#' must be the whole last level, as in 'factory/#'"
	// +kubebuilder:validation:XValidation:rule="!self.matches('[^/]\\\\+|\\\\+[^/]')",message="'+' must be a whole level, as in 'factory/+/state'"
	Filter string `json:"filter,omitempty"`

	// actions the client may do: Publish, Subscribe, or both.
	// +required
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=2
	Actions []Action `json:"actions,omitempty"`
}

// TokenSecret describes the Secret that the tokens are written to.
//
// +kubebuilder:validation:XValidation:rule="has(self.name) == has(oldSelf.name) && (!has(self.name) || self.name == oldSelf.name)",message="name is immutable: pods mount the Secret by it; create a new grant instead"
// +kubebuilder:validation:XValidation:rule="!has(self.labels) || self.labels.all(k, !k.contains('mqtt.tokengrant.dev/'))",message="labels must not use the prefix mqtt.tokengrant.dev/, which is the operator's"
// +kubebuilder:validation:XValidation:rule="!has(self.annotations) || self.annotations.all(k, !k.contains('mqtt.tokengrant.dev/'))",message="annotations must not use the prefix mqtt.tokengrant.dev/, which is the operator's"
// +kubebuilder:validation:MinProperties=1
type TokenSecret struct {
	// name of the Secret, in the grant's namespace; the grant's name when left out. Immutable.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="!format.dns1123Subdomain().validate(self).hasValue()",message="must be a valid Secret name: lower case letters, digits, '-' and '.'"
	Name string `json:"name,omitempty"`

	// labels to put on the Secret, at most 32. The prefix mqtt.tokengrant.dev/ is the operator's.
	// +optional
	// +kubebuilder:validation:MaxProperties=32
	// +kubebuilder:validation:MinProperties=0
	Labels map[string]string `json:"labels,omitempty"`

	// annotations to put on the Secret, at most 32. The prefix mqtt.tokengrant.dev/ is the operator's.
	// +optional
	// +kubebuilder:validation:MaxProperties=32
	// +kubebuilder:validation:MinProperties=0
	Annotations map[string]string `json:"annotations,omitempty"`

	// format of the keys: Files (default) has one key per file for a mounted volume; Env has MQTT_USERNAME, MQTT_PASSWORD
	// and so on for envFrom.
	// +optional
	// +kubebuilder:default=Files
	Format SecretFormat `json:"format,omitempty"`

	// template adds keys, at most 16, whose values are Go templates over the credentials, for example
	// "remote_username {{ .Username }}". Fields: Username, Password, ClientID, GroupID, DeviceID, Host, Port, URL, WSSURL,
	// TCPURL, ExpiresAt, RenewAt. Functions: json, base64. Loops and includes are refused. A template has at most 16 KiB and
	// renders to at most 64 KiB.
	// +optional
	// +kubebuilder:validation:MaxProperties=16
	// +kubebuilder:validation:MinProperties=0
	Template map[string]string `json:"template,omitempty"`
}

// MqttTokenGrantSpec is what an application team asks for.
//
// +kubebuilder:validation:XValidation:rule="!(has(self.renewBefore) && has(self.renewBeforePercentage))",message="set renewBefore or renewBeforePercentage, not both"
// +kubebuilder:validation:XValidation:rule="!has(self.renewBefore) || !self.renewBefore.matches('^([0-9]{1,6}[hms])+$') || !self.validity.matches('^([0-9]{1,6}[hms])+$') || duration(self.renewBefore).getSeconds() * 10 <= duration(self.validity).getSeconds() * 8",message="renewBefore must be at most 80 % of validity: a longer one would renew in a loop"
// +kubebuilder:validation:XValidation:rule="self.topics.filter(t, size(t.actions) == 2).size() <= 100",message="at most 100 topics can have both actions: that is what one token carries; split the grant"
// +kubebuilder:validation:XValidation:rule="self.topics.filter(t, t.actions == ['Publish']).size() <= 100",message="at most 100 topics can be publish-only: that is what one token carries; split the grant"
// +kubebuilder:validation:XValidation:rule="self.topics.filter(t, t.actions == ['Subscribe']).size() <= 100",message="at most 100 topics can be subscribe-only: that is what one token carries; split the grant"
type MqttTokenGrantSpec struct {
	// instanceRef names the MqttInstance whose tokens are wanted.
	// +required
	InstanceRef InstanceReference `json:"instanceRef,omitzero"`

	// client says who will present the tokens.
	// +required
	Client Client `json:"client,omitzero"`

	// topics the client may use: 1 to 300, at most 100 of each kind (publish-only, subscribe-only, both).
	// +required
	// +listType=map
	// +listMapKey=filter
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=300
	Topics []TopicPermission `json:"topics,omitempty"`

	// validity is how long each token lasts, as a duration such as 24h (default): 2m to 720h. The instance's accessRules
	// may allow less.
	// +optional
	// +kubebuilder:default="24h"
	// +kubebuilder:validation:MinLength=2
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,6}[hms])+$')",message="must be a duration in whole hours, minutes and seconds, such as 24h or 1h30m"
	// +kubebuilder:validation:XValidation:rule="!self.matches('^([0-9]{1,6}[hms])+$') || (duration(self) >= duration('2m') && duration(self) <= duration('720h'))",message="must be between 2m and 720h"
	Validity string `json:"validity,omitempty"`

	// renewBefore is how long before expiry the tokens are renewed, as a duration: 10s to 80 % of validity. One third of
	// validity when neither this nor renewBeforePercentage is set. It is also how long an outage of the service can last
	// without a client noticing.
	// +optional
	// +kubebuilder:validation:MinLength=2
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,6}[hms])+$')",message="must be a duration in whole hours, minutes and seconds, such as 24h or 1h30m"
	// +kubebuilder:validation:XValidation:rule="!self.matches('^([0-9]{1,6}[hms])+$') || (duration(self) >= duration('10s'))",message="must be at least 10s"
	RenewBefore string `json:"renewBefore,omitempty"`

	// renewBeforePercentage is renewBefore as a share of validity, in percent: 1 to 80.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=80
	RenewBeforePercentage int32 `json:"renewBeforePercentage,omitempty"`

	// overlap is how long a token that must be revoked because the grant got narrower stays usable, so that mounted files
	// can catch up (the kubelet takes up to 90 s); a duration of 0s to 1h, 5m by default.
	// +optional
	// +kubebuilder:default="5m"
	// +kubebuilder:validation:MinLength=2
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,6}[hms])+$')",message="must be a duration in whole hours, minutes and seconds, such as 24h or 1h30m"
	// +kubebuilder:validation:XValidation:rule="!self.matches('^([0-9]{1,6}[hms])+$') || (duration(self) <= duration('1h'))",message="must be at most 1h"
	Overlap string `json:"overlap,omitempty"`

	// secret describes the Secret that the tokens are written to.
	// +optional
	// +kubebuilder:default={format:Files}
	Secret TokenSecret `json:"secret,omitzero"`

	// rolloutRestartTargets are workloads, at most 8, whose pods read tokens only when they start: they are restarted when
	// the tokens change, at most every 5 minutes each. Each must allow it by the annotation
	// mqtt.tokengrant.dev/allow-restart, and the platform team must have installed the operator with
	// --rollout-restarts. None by default.
	// +optional
	// +listType=map
	// +listMapKey=kind
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	RolloutRestartTargets []RolloutTarget `json:"rolloutRestartTargets,omitempty"`

	// deletionPolicy says what happens to the tokens when the grant is deleted: Revoke (default) revokes every live token;
	// Abandon leaves the current ones to expire.
	// +optional
	// +kubebuilder:default=Revoke
	DeletionPolicy DeletionPolicy `json:"deletionPolicy,omitempty"`

	// suspend stops applying for tokens while it is true; false by default. Tokens that are held stay until they expire,
	// and what must be revoked is still revoked.
	// +optional
	Suspend *bool `json:"suspend,omitempty"`
}

// TokenStatus describes one token without giving it away.
type TokenStatus struct {
	// type of the token.
	// +required
	// +kubebuilder:validation:Enum=Publish;Subscribe;PublishSubscribe
	Type string `json:"type,omitempty"`

	// topicCount is how many topics it carries.
	// +required
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	TopicCount int32 `json:"topicCount,omitempty"`

	// issuedTime is when it was applied for.
	// +required
	IssuedTime *metav1.Time `json:"issuedTime,omitempty"`

	// expirationTime is when it ends.
	// +required
	ExpirationTime *metav1.Time `json:"expirationTime,omitempty"`

	// fingerprint tells tokens apart: a keyed hash, never the token.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	Fingerprint string `json:"fingerprint,omitempty"`
}

// Failure describes the last attempt that failed.
type Failure struct {
	// reason is the condition reason that the failure led to.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	Reason string `json:"reason,omitempty"`

	// message says what happened and what to do.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	Message string `json:"message,omitempty"`

	// time of the attempt.
	// +required
	Time *metav1.Time `json:"time,omitempty"`
}

// MqttTokenGrantStatus reports what the operator did. It is a report: only failedAttempts and nextAttemptTime are read
// back.
//
// +kubebuilder:validation:MinProperties=1
type MqttTokenGrantStatus struct {
	// conditions that hold: Ready, Authorized, Renewed, Held, ShortValidity, Reconciling, Stalled.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:MinItems=1
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// observedGeneration is the generation that this status speaks of; -1 before the operator has seen the grant.
	// +optional
	// +kubebuilder:validation:Minimum=-1
	ObservedGeneration *int64 `json:"observedGeneration,omitempty"`

	// clientID that this grant has at the instance: <groupID>@@@<deviceID>, or the group id alone. Empty until it may have
	// it: no other grant of the cluster has the same.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	ClientID string `json:"clientID,omitempty"`

	// instanceID of the instance at which it has that client id.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	InstanceID string `json:"instanceID,omitempty"`

	// accessKeyID is the AccessKey id in the username that the Secret holds; empty without tokens.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	AccessKeyID string `json:"accessKeyID,omitempty"`

	// secretName is the Secret that holds the tokens.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	SecretName string `json:"secretName,omitempty"`

	// tokens in the Secret, one per type.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=3
	// +kubebuilder:validation:MinItems=1
	Tokens []TokenStatus `json:"tokens,omitempty"`

	// expirationTime is when the first of the tokens ends.
	// +optional
	ExpirationTime *metav1.Time `json:"expirationTime,omitempty"`

	// renewalTime is when the operator renews them.
	// +optional
	RenewalTime *metav1.Time `json:"renewalTime,omitempty"`

	// revision counts how often tokens were issued into the Secret.
	// +optional
	// +kubebuilder:validation:Minimum=1
	Revision int64 `json:"revision,omitempty"`

	// lastFailure describes the last attempt that failed; gone after the next success.
	// +optional
	LastFailure Failure `json:"lastFailure,omitzero"`

	// failedAttempts counts the failures since the last success.
	// +optional
	// +kubebuilder:validation:Minimum=1
	FailedAttempts int32 `json:"failedAttempts,omitempty"`

	// nextAttemptTime is when the operator tries again after a failure.
	// +optional
	NextAttemptTime *metav1.Time `json:"nextAttemptTime,omitempty"`

	// pendingRevocations counts the grant's tokens that the ledger still has to revoke.
	// +optional
	// +kubebuilder:validation:Minimum=1
	PendingRevocations int32 `json:"pendingRevocations,omitempty"`
}

// MqttTokenGrant grants one MQTT client its topics: the operator keeps valid tokens for them in a Secret.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=mtg,categories=mqtt
// +kubebuilder:selectablefield:JSONPath=`.spec.instanceRef.name`
// +kubebuilder:selectablefield:JSONPath=`.spec.client.groupID`
// +kubebuilder:selectablefield:JSONPath=`.spec.client.deviceID`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Client",type=string,JSONPath=`.status.clientID`
// +kubebuilder:printcolumn:name="Expires",type=string,JSONPath=`.status.expirationTime`
// +kubebuilder:printcolumn:name="Renews",type=string,JSONPath=`.status.renewalTime`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Instance",type=string,priority=1,JSONPath=`.spec.instanceRef.name`
// +kubebuilder:printcolumn:name="Secret",type=string,priority=1,JSONPath=`.status.secretName`
// +kubebuilder:printcolumn:name="Reason",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:validation:XValidation:rule="size(self.metadata.name) <= 63",message="the name must not exceed 63 characters: it becomes a label value"
type MqttTokenGrant struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is standard object metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// spec is what the application team asks for.
	// +required
	Spec MqttTokenGrantSpec `json:"spec,omitzero"`

	// status reports what the operator did.
	// +optional
	// +kubebuilder:default={"observedGeneration":-1}
	Status MqttTokenGrantStatus `json:"status,omitzero"`
}

// MqttTokenGrantList is a list of grants.
//
// +kubebuilder:object:root=true
type MqttTokenGrantList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitzero"`
	Items           []MqttTokenGrant `json:"items"`
}
