package token

// IdentityType says where the key that signs the calls comes from.
type IdentityType string

// The types of identity. The last three belong to the process, not to the connection: who may use them is for the caller
// to decide.
const (
	// IdentityAccessKey is the connection's own key.
	IdentityAccessKey IdentityType = ""
	// IdentityRRSA is a role that the process's service account may assume (RAM Roles for Service Accounts).
	IdentityRRSA IdentityType = "RRSA"
	// IdentityECSRAMRole is the role of the machine that the process runs on.
	IdentityECSRAMRole IdentityType = "ECSRAMRole"
	// IdentityAmbient is whatever the process's environment offers: a key, else a role for its service account, else the
	// machine's role. It is looked for anew each time that a key ends.
	IdentityAmbient IdentityType = "Ambient"
)

// Identity says who speaks for an instance. Identities are comparable with ==.
type Identity struct {
	// Type says which of the fields below count.
	Type IdentityType
	// RoleARN, OIDCProviderARN and TokenFile describe an IdentityRRSA; each that is empty comes from the process's
	// environment, where the cluster's webhook puts it.
	RoleARN, OIDCProviderARN, TokenFile string
	// RoleName is the machine's role of an IdentityECSRAMRole; empty: the machine knows.
	RoleName string
	// Assume is a role to assume with the key that the above yields; zero: none.
	Assume AssumedRole
}

// AssumedRole is a role that is assumed with another key.
type AssumedRole struct {
	RoleARN string
	// ExternalID is what the role's owner wants to hear from us; zero: nothing.
	ExternalID Value
}
