package v1alpha1

// Condition types. Each is also described, with all its reasons, on the page of its kind under docs/.
const (
	// ReadyCondition is True while the Secret holds tokens that match the spec and are valid now (a grant), or while calls
	// to the service work (an instance).
	ReadyCondition = "Ready"
	// AuthorizedCondition is False while the instance's accessRules do not allow what the grant asks for. Ask the platform
	// team for a rule, or change the grant as the message says.
	AuthorizedCondition = "Authorized"
	// RenewedCondition is False while new tokens cannot be had although they are due. The old ones work until they expire.
	RenewedCondition = "Renewed"
	// HeldCondition is True while the hold annotation keeps the client cut off. It is absent otherwise.
	HeldCondition = "Held"
	// ShortValidityCondition is True while tokens are renewed so late that mounted files may not catch up before they end.
	// Raise spec.validity or spec.renewBefore. It is absent otherwise.
	ShortValidityCondition = "ShortValidity"
	// RolloutRestartsOffCondition is True while spec.rolloutRestartTargets is set and the operator restarts nothing. It is
	// absent otherwise.
	RolloutRestartsOffCondition = "RolloutRestartsOff"
	// MassRevocationHeldCondition is True while a change of rules or labels would take access from so many grants that the
	// operator asks before it revokes anything. Undo the change, or confirm it as the message says. It is absent otherwise.
	MassRevocationHeldCondition = "MassRevocationHeld"
	// TokensInvalidCondition is True while the service calls nearly every token that is checked invalid, so that reissuing
	// them is more likely wrong than right. Look at the instance in the console, or confirm as the message says. It is
	// absent otherwise.
	TokensInvalidCondition = "TokensInvalid"
	// BrokerAcceptsCondition says whether the broker admitted a client with a token when the operator last tried, which
	// spec.broker.probe asks for. It is absent otherwise.
	BrokerAcceptsCondition = "BrokerAccepts"
	// ReconcilingCondition is True while the spec is not met yet and the operator is at it or waits for something. It is
	// absent otherwise, as kstatus wants.
	ReconcilingCondition = "Reconciling"
	// StalledCondition is True while only an edit of this object can help. It is absent otherwise, as kstatus wants.
	StalledCondition = "Stalled"
)

// Reasons that tell of success.
const (
	// ReasonIssued says that the Secret holds valid tokens for the spec.
	ReasonIssued = "Issued"
	// ReasonAllowed says that the accessRules allow everything the grant asks for.
	ReasonAllowed = "Allowed"
	// ReasonConnected says that the service took the instance's credential.
	ReasonConnected = "Connected"
)

// Reasons that an application team can act on.
const (
	// ReasonInvalidSpec says that the spec cannot be understood; correct it as the message says.
	ReasonInvalidSpec = "InvalidSpec"
	// ReasonTemplateInvalid says that a template in spec.secret.template does not render; correct the key that is named.
	ReasonTemplateInvalid = "TemplateInvalid"
	// ReasonSecretConflict says that the Secret exists and belongs to something else. It is left alone; delete it or choose
	// another name.
	ReasonSecretConflict = "SecretConflict"
	// ReasonNamespaceNotAllowed says that no access rule applies to the grant's namespace.
	ReasonNamespaceNotAllowed = "NamespaceNotAllowed"
	// ReasonClientNotAllowed says that no access rule allows the grant's group or device id.
	ReasonClientNotAllowed = "ClientNotAllowed"
	// ReasonTopicNotAllowed says that no access rule covers one of the topics with the actions asked for.
	ReasonTopicNotAllowed = "TopicNotAllowed"
	// ReasonValidityTooLong says that the validity exceeds what the access rules allow.
	ReasonValidityTooLong = "ValidityTooLong"
	// ReasonClientIDConflict says that another grant has the client id at this instance; choose another device id.
	ReasonClientIDConflict = "ClientIDConflict"
	// ReasonRefused says that the service refused the request as it is; change what the message names.
	ReasonRefused = "Refused"
	// ReasonHeld says that the hold annotation keeps the client cut off; remove the annotation to let it back.
	ReasonHeld = "Held"
	// ReasonShortValidity says that renewals come too late for mounted files; raise spec.validity or spec.renewBefore.
	ReasonShortValidity = "ShortValidity"
	// ReasonRolloutRestartsOff says that nothing is restarted when tokens change; install the operator with
	// --rollout-restarts, or leave spec.rolloutRestartTargets out.
	ReasonRolloutRestartsOff = "RolloutRestartsOff"
	// ReasonSuspended says that spec.suspend keeps the operator from applying for tokens.
	ReasonSuspended = "Suspended"
)

// Reasons that pass by themselves, or that somebody else must act on.
const (
	// ReasonInstanceNotReady says that the MqttInstance is missing or not usable; its own conditions tell why.
	ReasonInstanceNotReady = "InstanceNotReady"
	// ReasonTopicDenied says that the instance's account may not use one of the topics; the platform team creates the parent
	// topic or extends the account's permission.
	ReasonTopicDenied = "TopicDenied"
	// ReasonServiceUnavailable says that the service did not answer properly; the operator tries again.
	ReasonServiceUnavailable = "ServiceUnavailable"
	// ReasonThrottled says that the account made too many calls; the operator tries again, slower.
	ReasonThrottled = "Throttled"
	// ReasonSecretUnwritable says that the API server did not take or show the Secret; quota, policy or RBAC.
	ReasonSecretUnwritable = "SecretUnwritable"
	// ReasonExpired says that the tokens ended before they could be renewed.
	ReasonExpired = "Expired"
	// ReasonRevocationBacklog says that so many of the grant's tokens wait to be revoked that no more are issued.
	ReasonRevocationBacklog = "RevocationBacklog"
	// ReasonMassRevocationHeld says, at an instance, that a change of rules or labels would take access from many grants; the
	// platform team confirms or undoes it. The tokens are kept until then, and not renewed.
	ReasonMassRevocationHeld = "MassRevocationHeld"
	// ReasonProgressing says that the operator is at it.
	ReasonProgressing = "Progressing"
	// ReasonRevoking says that the grant is being deleted and its tokens are being revoked.
	ReasonRevoking = "Revoking"
)

// Reasons of an instance that is not Ready. The platform team acts on them.
const (
	// ReasonCredentialNotFound says that the credential Secret does not exist or may not be read.
	ReasonCredentialNotFound = "CredentialNotFound"
	// ReasonCredentialInvalid says that the credential Secret lacks a key or holds nonsense.
	ReasonCredentialInvalid = "CredentialInvalid"
	// ReasonCredentialRefused says that the service refused the credential or the account may not use the instance.
	ReasonCredentialRefused = "CredentialRefused"
	// ReasonBrokerAdmits says that the broker admitted a client with a token, and let it subscribe and publish.
	ReasonBrokerAdmits = "BrokerAdmits"
	// ReasonBrokerRefused says that the broker did not; the message has its answer.
	ReasonBrokerRefused = "BrokerRefused"
	// ReasonBrokerUnreachable says that the manager cannot reach the broker; clients may.
	ReasonBrokerUnreachable = "BrokerUnreachable"
	// ReasonProbeFailed says that no token could be had to ask the broker with.
	ReasonProbeFailed = "ProbeFailed"
	// ReasonIdentityNotAllowed says that the manager does not lend its own identity to instances of this namespace.
	ReasonIdentityNotAllowed = "IdentityNotAllowed"
	// ReasonEndpointNotAllowed says that the manager's flags do not allow the endpoint.
	ReasonEndpointNotAllowed = "EndpointNotAllowed"
	// ReasonUnreachable says that the endpoint could not be reached.
	ReasonUnreachable = "Unreachable"
	// ReasonClockSkew says that the manager's clock is too far off the service's for signatures to be taken; set the node's
	// clock.
	ReasonClockSkew = "ClockSkew"
	// ReasonTokensInvalid says that the service calls nearly every token that is checked invalid.
	ReasonTokensInvalid = "TokensInvalid"
	// ReasonDeleting says that the MqttInstance is being deleted and waits for revocations over it.
	ReasonDeleting = "Deleting"
)

// Event reasons. Each is spoken once per transition.
const (
	// EventIssued tells that a grant got its first tokens.
	EventIssued = "Issued"
	// EventRenewed tells that tokens were replaced by newer ones with the same scope.
	EventRenewed = "Renewed"
	// EventScopeChanged tells that tokens were replaced because the grant asks for something else.
	EventScopeChanged = "ScopeChanged"
	// EventReissued tells that tokens were replaced on request or because the Secret was lost.
	EventReissued = "Reissued"
	// EventRepaired tells that the Secret was brought back to what it should hold, without a new token.
	EventRepaired = "Repaired"
	// EventRevoked tells that superseded tokens, or those of a deleted grant, were revoked.
	EventRevoked = "Revoked"
	// EventWithdrawn tells that the tokens were taken out of the Secret and are being revoked: held, or denied.
	EventWithdrawn = "Withdrawn"
	// EventRestarted tells that a workload was restarted because the tokens changed.
	EventRestarted = "Restarted"
	// EventNotRestarted tells why a workload is not restarted: it is missing, does not allow it, or the API server refused.
	EventNotRestarted = "NotRestarted"
	// EventHandedOver tells that a deletion did not wait for the service any longer: the ledger revokes what is left.
	EventHandedOver = "HandedOver"
	// EventAdopted tells that the Secret of another grant was taken over.
	EventAdopted = "Adopted"
	// EventTokenInvalid tells that the service called a token invalid that should be good: somebody else revoked it.
	EventTokenInvalid = "TokenInvalid"
	// EventRecovered tells that an instance works again.
	EventRecovered = "Recovered"
)
