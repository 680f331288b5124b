package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Annotations that people put on an instance.
const (
	// ConfirmRevocationAnnotation lets a change of this instance's rules take access from many grants at once. Its value is
	// the instance's generation that is meant.
	ConfirmRevocationAnnotation = GroupName + "/confirm-revocation"
	// ConfirmReissueAnnotation lets the operator reissue although every token it checked was called invalid. Its value is
	// the instance's generation that is meant.
	ConfirmReissueAnnotation = GroupName + "/confirm-reissue"
	// CompromisedKeyAnnotation names an AccessKey id that must not be trusted any more: tokens that were issued for it are
	// revoked once they are replaced.
	CompromisedKeyAnnotation = GroupName + "/compromised-key"
)

// InstanceFinalizer keeps a deleted instance, for a bounded time, while grants or the ledger revoke over it.
const InstanceFinalizer = GroupName + "/in-use"

// Network selects the form of the endpoint.
//
// +kubebuilder:validation:Enum=Public;VPC
type Network string

// The two networks.
const (
	// NetworkPublic reaches the service over the internet.
	NetworkPublic Network = "Public"
	// NetworkVPC reaches the service inside its region's private network.
	NetworkVPC Network = "VPC"
)

// CredentialType discriminates Credentials.
//
// +kubebuilder:validation:Enum=AccessKey;RRSA;ECSRAMRole;Ambient
type CredentialType string

// The types of credential. All but the first are the manager's own identity.
const (
	// CredentialTypeAccessKey reads an AccessKey from a Secret.
	CredentialTypeAccessKey CredentialType = "AccessKey"
	// CredentialTypeRRSA assumes a role with the token of the manager's service account (RAM Roles for Service Accounts).
	CredentialTypeRRSA CredentialType = "RRSA"
	// CredentialTypeECSRAMRole uses the role of the machine that the manager runs on.
	CredentialTypeECSRAMRole CredentialType = "ECSRAMRole"
	// CredentialTypeAmbient uses what the manager's environment offers: an AccessKey, else RRSA, else the machine's role.
	CredentialTypeAmbient CredentialType = "Ambient"
)

// NamespacesFrom says which namespaces a rule applies to.
//
// +kubebuilder:validation:Enum=Same;All;Selector
type NamespacesFrom string

// The three ways to pick namespaces.
const (
	// NamespacesSame picks the instance's own namespace.
	NamespacesSame NamespacesFrom = "Same"
	// NamespacesAll picks every namespace.
	NamespacesAll NamespacesFrom = "All"
	// NamespacesSelector picks namespaces by their labels.
	NamespacesSelector NamespacesFrom = "Selector"
)

// SecretReference names a Secret in the same namespace.
type SecretReference struct {
	// name of the Secret.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$')",message="must be the name of a Secret in this namespace: lower case letters, digits, '-' and '.'"
	Name string `json:"name,omitempty"`
}

// AccessKeyCredential points to an AccessKey.
type AccessKeyCredential struct {
	// secretRef names a Secret in the instance's namespace with the keys accessKeyID, accessKeySecret and, for a temporary
	// AccessKey, securityToken. A changed Secret takes effect at once.
	// +required
	SecretRef SecretReference `json:"secretRef,omitzero"`
}

// RRSACredential names a role that the manager's service account may assume.
//
// +kubebuilder:validation:MinProperties=1
type RRSACredential struct {
	// roleARN of the role, such as acs:ram::1001:role/mqtt; the one that the manager's service account is annotated with when
	// left out.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:XValidation:rule="self.matches('^acs:ram::[0-9A-Za-z]+:role/[A-Za-z0-9._-]+$')",message="must be the ARN of a role, such as acs:ram::1001:role/mqtt"
	RoleARN string `json:"roleARN,omitempty"`

	// oidcProviderARN of the cluster's identity provider, such as acs:ram::1001:oidc-provider/ack-rrsa-c1; the one in the
	// manager's environment when left out.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:XValidation:rule="self.matches('^acs:ram::[0-9A-Za-z]+:oidc-provider/[A-Za-z0-9._-]+$')",message="must be the ARN of an OIDC provider, such as acs:ram::1001:oidc-provider/ack-rrsa-c1"
	OIDCProviderARN string `json:"oidcProviderARN,omitempty"`
}

// ECSRAMRoleCredential names the role of the manager's machine.
//
// +kubebuilder:validation:MinProperties=1
type ECSRAMRoleCredential struct {
	// roleName of the role; the one that the machine has when left out.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="self.matches('^[A-Za-z0-9.@_-]+$')",message="may hold letters, digits and '.', '@', '_', '-' only"
	RoleName string `json:"roleName,omitempty"`
}

// AssumedRole is a role to assume with the credential.
type AssumedRole struct {
	// roleARN of the role, such as acs:ram::1001:role/mqtt.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:XValidation:rule="self.matches('^acs:ram::[0-9A-Za-z]+:role/[A-Za-z0-9._-]+$')",message="must be the ARN of a role, such as acs:ram::1001:role/mqtt"
	RoleARN string `json:"roleARN,omitempty"`

	// externalID that the role's trust policy asks for.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	ExternalID string `json:"externalID,omitempty"`
}

// Credentials says with which identity the operator calls the service.
//
// +kubebuilder:validation:XValidation:rule="self.type == 'AccessKey' ? has(self.accessKey) : !has(self.accessKey)",message="accessKey must be set exactly when type is AccessKey"
// +kubebuilder:validation:XValidation:rule="self.type == 'RRSA' || !has(self.rrsa)",message="rrsa must not be set unless type is RRSA"
// +kubebuilder:validation:XValidation:rule="self.type == 'ECSRAMRole' || !has(self.ecsRAMRole)",message="ecsRAMRole must not be set unless type is ECSRAMRole"
// +union
type Credentials struct {
	// type of the credential: AccessKey, RRSA, ECSRAMRole or Ambient. The last three are the manager's own identity, which
	// instances may use only in the namespaces that the manager allows it in.
	// +unionDiscriminator
	// +required
	Type CredentialType `json:"type,omitempty"`

	// accessKey is set when type is AccessKey.
	// +optional
	AccessKey AccessKeyCredential `json:"accessKey,omitzero"`

	// rrsa may be set when type is RRSA.
	// +optional
	RRSA RRSACredential `json:"rrsa,omitzero"`

	// ecsRAMRole may be set when type is ECSRAMRole.
	// +optional
	ECSRAMRole ECSRAMRoleCredential `json:"ecsRAMRole,omitzero"`

	// assumeRole is a role to assume with the credential above, such as one of another account.
	// +optional
	AssumeRole AssumedRole `json:"assumeRole,omitzero"`
}

// BrokerPorts overrides the broker's ports.
//
// +kubebuilder:validation:MinProperties=1
type BrokerPorts struct {
	// tls is the port for MQTT over TLS; 8883 by default.
	// +optional
	// +kubebuilder:default=8883
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	TLS int32 `json:"tls,omitempty"`

	// wss is the port for MQTT over WebSocket and TLS; 443 by default.
	// +optional
	// +kubebuilder:default=443
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	WSS int32 `json:"wss,omitempty"`

	// tcp is the port for MQTT in plain text; 1883 by default.
	// +optional
	// +kubebuilder:default=1883
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	TCP int32 `json:"tcp,omitempty"`
}

// BrokerProbe says as whom the operator connects to the broker, and what it does there.
type BrokerProbe struct {
	// groupID is a client group, created at the service beforehand: GID_ or GID-, then letters, digits, '-' and '_'; 7 to 40
	// characters.
	// +required
	// +kubebuilder:validation:MinLength=7
	// +kubebuilder:validation:MaxLength=40
	// +kubebuilder:validation:XValidation:rule="self.matches('^GID[_-][A-Za-z0-9_-]+$')",message="must begin with GID_ or GID- and go on with letters, digits, '-' and '_' only"
	GroupID string `json:"groupID,omitempty"`

	// topic is published to and received from, with one short message a day; its first level exists at the service. 1 to 64
	// characters, without wildcards.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="self.matches('^[^$,|+#\\\\p{Cc}][^,|+#\\\\p{Cc}]*$')",message="must be a topic without wildcards, ',', '|' and control characters, and must not begin with '$'"
	Topic string `json:"topic,omitempty"`
}

// Broker says what clients get to connect to.
//
// +kubebuilder:validation:MinProperties=1
type Broker struct {
	// host of the broker; <instanceID>.mqtt.aliyuncs.com when left out. Inside a VPC, name the host that the console shows.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.matches('^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$')",message="must be a host name or an IPv4 address, without scheme or port"
	Host string `json:"host,omitempty"`

	// ports overrides the broker's ports.
	// +optional
	// +kubebuilder:default={tls:8883,wss:443,tcp:1883}
	Ports BrokerPorts `json:"ports,omitzero"`

	// caBundle holds PEM certificates that clients should trust for the broker; it becomes ca.crt in the token Secret. Left
	// out, clients use their system's.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=65536
	CABundle string `json:"caBundle,omitempty"`

	// probe has the operator connect to the broker as a client would, and say in the condition BrokerAccepts what came of it.
	// Left out, nobody asks.
	// +optional
	Probe BrokerProbe `json:"probe,omitzero"`

	// allowPlaintext adds tcp-url to token Secrets, for clients that cannot speak TLS; false by default: without TLS anyone
	// on the way can read the token.
	// +optional
	AllowPlaintext *bool `json:"allowPlaintext,omitempty"`
}

// RuleNamespaces picks the namespaces whose grants a rule applies to.
//
// +kubebuilder:validation:XValidation:rule="self.from == 'Selector' ? has(self.selector) : !has(self.selector)",message="selector must be set exactly when from is Selector"
type RuleNamespaces struct {
	// from is Same (the instance's namespace), All, or Selector.
	// +required
	From NamespacesFrom `json:"from,omitempty"`

	// selector picks namespaces by their labels; an empty one picks all.
	// +optional
	Selector *metav1.LabelSelector `json:"selector,omitempty"`
}

// TopicRule allows actions on a topic filter.
type TopicRule struct {
	// filter that a grant's topic must be covered by. {namespace}, {groupID} and {deviceID} stand for the grant's; a rule
	// that uses one the grant does not set never matches. 1 to 128 characters; after substitution the limits of a grant's
	// filter apply.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	// +kubebuilder:validation:XValidation:rule="!self.contains(',') && !self.contains('|')",message="must not contain ',' or '|': write one list item per topic"
	// +kubebuilder:validation:XValidation:rule="!self.startsWith('$')",message="must not begin with '$': those topics belong to the broker"
	// +kubebuilder:validation:XValidation:rule="!self.matches('[\\\\p{Cc}\\\\x{FFFD}]')",message="must not contain control characters"
	// +kubebuilder:validation:XValidation:rule="!self.matches('(?s:#.|[^/]#)')",message="'#' must be the whole last level, as in 'factory/#'"
	// +kubebuilder:validation:XValidation:rule="!self.matches('[^/]\\\\+|\\\\+[^/]')",message="'+' must be a whole level, as in 'factory/+/state'"
	// +kubebuilder:validation:XValidation:rule="!self.replace('{namespace}', '').replace('{groupID}', '').replace('{deviceID}', '').matches('[{}]')",message="the only variables are {namespace}, {groupID} and {deviceID}"
	Filter string `json:"filter,omitempty"`

	// actions that are allowed on it: Publish, Subscribe, or both.
	// +required
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=2
	Actions []Action `json:"actions,omitempty"`
}

// AccessRule allows some grants some topics. Nothing is allowed unless a rule allows it; each topic of a grant must be
// covered by one rule that matches the grant's namespace, group and device.
type AccessRule struct {
	// namespaces whose grants the rule applies to.
	// +required
	Namespaces RuleNamespaces `json:"namespaces,omitzero"`

	// groupIDs are patterns for the grant's group id, 1 to 32: '*' stands for any characters, {namespace} for the grant's.
	// +required
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=128
	GroupIDs []string `json:"groupIDs,omitempty"`

	// deviceIDs are patterns for the grant's device id, at most 32: '*' stands for any characters, {namespace} and {groupID}
	// for the grant's. Left out, any device id matches.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=128
	DeviceIDs []string `json:"deviceIDs,omitempty"`

	// allowGroupGrants lets grants without a device id match; false by default: such tokens fit every client of the group.
	// +optional
	AllowGroupGrants *bool `json:"allowGroupGrants,omitempty"`

	// topics that the rule allows, 1 to 100.
	// +required
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=100
	Topics []TopicRule `json:"topics,omitempty"`

	// maxValidity is the longest validity that a grant which uses this rule may ask for: 2m to 720h, 720h when left out.
	// +optional
	// +kubebuilder:validation:MinLength=2
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,6}[hms])+$')",message="must be a duration in whole hours, minutes and seconds, such as 24h or 1h30m"
	// +kubebuilder:validation:XValidation:rule="!self.matches('^([0-9]{1,6}[hms])+$') || (duration(self) >= duration('2m') && duration(self) <= duration('720h'))",message="must be between 2m and 720h"
	MaxValidity string `json:"maxValidity,omitempty"`
}

// Quota is this manager's share of the account's call quota, in calls per second.
//
// +kubebuilder:validation:MinProperties=1
type Quota struct {
	// applyPerSecond bounds ApplyToken calls: 1 to 100, 50 by default. The account's quota is 100.
	// +optional
	// +kubebuilder:default=50
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	ApplyPerSecond int32 `json:"applyPerSecond,omitempty"`

	// queryPerSecond bounds QueryToken calls: 1 to 100, 20 by default. The account's quota is 100.
	// +optional
	// +kubebuilder:default=20
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	QueryPerSecond int32 `json:"queryPerSecond,omitempty"`

	// revokePerSecond bounds RevokeToken calls: 1 to 5, 4 by default. The account's quota is 5.
	// +optional
	// +kubebuilder:default=4
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=5
	RevokePerSecond int32 `json:"revokePerSecond,omitempty"`
}

// MqttInstanceSpec is what a platform team declares about one MQTT instance.
//
// +kubebuilder:validation:XValidation:rule="!has(self.caBundle) || has(self.endpoint)",message="caBundle needs an endpoint: the service's own endpoints have public certificates"
// +kubebuilder:validation:XValidation:rule="has(self.clientAccessKeyID) || self.credentials.type == 'AccessKey' && !has(self.credentials.assumeRole)",message="clientAccessKeyID must be set: the id of a temporary key ends with it and cannot stand in the clients' username"
type MqttInstanceSpec struct {
	// instanceID is the id of the MQTT instance, such as post-cn-0pp12gl0001. Immutable.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="self.matches('^[A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9])?$')",message="may hold letters, digits, '-' and '_' only"
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="is immutable: tokens are bound to it; create another MqttInstance"
	InstanceID string `json:"instanceID,omitempty"`

	// regionID is the id of the region that the instance lives in, such as cn-hangzhou. Immutable.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([a-z0-9-]*[a-z0-9])?$')",message="may hold lower case letters, digits and '-' only"
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="is immutable: an instance does not move; create another MqttInstance"
	RegionID string `json:"regionID,omitempty"`

	// network selects the form of the OpenAPI endpoint: Public (default) or VPC.
	// +optional
	// +kubebuilder:default=Public
	Network Network `json:"network,omitempty"`

	// endpoint overrides the OpenAPI endpoint that region and network imply: a host, with a port if it is not 443; always
	// reached by TLS. The manager must allow it.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=260
	// +kubebuilder:validation:XValidation:rule="self.matches('^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?$')",message="must be a host with an optional port, without scheme or path"
	Endpoint string `json:"endpoint,omitempty"`

	// caBundle holds PEM certificates to trust for the endpoint instead of the system's. Taken only with an endpoint that
	// the manager's flags list by name.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=65536
	CABundle string `json:"caBundle,omitempty"`

	// broker says what clients get to connect to.
	// +optional
	// +kubebuilder:default={ports:{tls:8883,wss:443,tcp:1883}}
	Broker Broker `json:"broker,omitzero"`

	// credentials says with which identity the operator calls the service.
	// +required
	Credentials Credentials `json:"credentials,omitzero"`

	// clientAccessKeyID is the AccessKey id in the clients' username; the credential's own when left out. Required when the
	// credential is temporary, because the id of a temporary one ends with it.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	// +kubebuilder:validation:XValidation:rule="self.matches('^[A-Za-z0-9_-]+$')",message="may hold letters, digits, '-' and '_' only; an id that begins with STS. is temporary and cannot be used"
	ClientAccessKeyID string `json:"clientAccessKeyID,omitempty"`

	// accessRules say which grants may have what, at most 64; none allows nothing.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:MinItems=0
	AccessRules []AccessRule `json:"accessRules,omitempty"`

	// quota is this manager's share of the account's call quota.
	// +optional
	// +kubebuilder:default={applyPerSecond:50,queryPerSecond:20,revokePerSecond:4}
	Quota Quota `json:"quota,omitzero"`
}

// GrantCounts counts an instance's grants.
type GrantCounts struct {
	// total number of grants that name the instance.
	// +required
	// +kubebuilder:validation:Minimum=0
	Total *int32 `json:"total,omitempty"`

	// ready is how many of them are Ready.
	// +required
	// +kubebuilder:validation:Minimum=0
	Ready *int32 `json:"ready,omitempty"`
}

// ExpiringGrants counts grants by when they would lose access if no token could be had from now on.
type ExpiringGrants struct {
	// within1h counts grants whose tokens end within an hour.
	// +required
	// +kubebuilder:validation:Minimum=0
	Within1h *int32 `json:"within1h,omitempty"`

	// within6h counts grants whose tokens end within six hours.
	// +required
	// +kubebuilder:validation:Minimum=0
	Within6h *int32 `json:"within6h,omitempty"`

	// within24h counts grants whose tokens end within a day.
	// +required
	// +kubebuilder:validation:Minimum=0
	Within24h *int32 `json:"within24h,omitempty"`
}

// MqttInstanceStatus reports what the operator found.
//
// +kubebuilder:validation:MinProperties=1
type MqttInstanceStatus struct {
	// conditions that hold: Ready, MassRevocationHeld, TokensInvalid, Reconciling, Stalled.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:MinItems=1
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// observedGeneration is the generation that this status speaks of; -1 before the operator has seen the instance.
	// +optional
	// +kubebuilder:validation:Minimum=-1
	ObservedGeneration *int64 `json:"observedGeneration,omitempty"`

	// accessKeyID is the AccessKey id that clients carry in their username.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	AccessKeyID string `json:"accessKeyID,omitempty"`

	// accessKeysInUse are the AccessKey ids in the usernames that token Secrets hold now. After a rotation, a key that is not
	// among them any more can be disabled.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=128
	AccessKeysInUse []string `json:"accessKeysInUse,omitempty"`

	// grants counts the grants that name this instance; at most 10 s behind.
	// +optional
	Grants GrantCounts `json:"grants,omitzero"`

	// survivesUntil is when the first of those grants loses access if no token can be had from now on; at most a minute
	// behind.
	// +optional
	SurvivesUntil *metav1.Time `json:"survivesUntil,omitempty"`

	// expiring counts the grants that lose access soon if no token can be had from now on; at most a minute behind.
	// +optional
	Expiring ExpiringGrants `json:"expiring,omitzero"`

	// pendingRevocations counts tokens of this instance that the ledger still has to revoke.
	// +optional
	// +kubebuilder:validation:Minimum=1
	PendingRevocations int32 `json:"pendingRevocations,omitempty"`

	// accountID identifies the account whose call budget this instance shares: instances with the same one take turns.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	AccountID string `json:"accountID,omitempty"`

	// clockSkewSeconds is how far the service's clock is ahead of the manager's, in seconds; negative if it is behind,
	// absent below 2 s. Decisions about expiry follow the service's clock.
	// +optional
	// +kubebuilder:validation:Minimum=-86400
	// +kubebuilder:validation:Maximum=86400
	ClockSkewSeconds *int32 `json:"clockSkewSeconds,omitempty"`
}

// MqttInstance declares one ApsaraMQ for MQTT instance: where it is, which credential speaks for it, who may have what.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=mqi,categories=mqtt
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Instance ID",type=string,JSONPath=`.spec.instanceID`
// +kubebuilder:printcolumn:name="Region",type=string,JSONPath=`.spec.regionID`
// +kubebuilder:printcolumn:name="Grants",type=integer,JSONPath=`.status.grants.total`
// +kubebuilder:printcolumn:name="Survives",type=string,JSONPath=`.status.survivesUntil`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Reason",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Key",type=string,priority=1,JSONPath=`.status.accessKeyID`
type MqttInstance struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is standard object metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// spec is what the platform team declares.
	// +required
	Spec MqttInstanceSpec `json:"spec,omitzero"`

	// status reports what the operator found.
	// +optional
	// +kubebuilder:default={"observedGeneration":-1}
	Status MqttInstanceStatus `json:"status,omitzero"`
}

// MqttInstanceList is a list of instances.
//
// +kubebuilder:object:root=true
type MqttInstanceList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitzero"`
	Items           []MqttInstance `json:"items"`
}
