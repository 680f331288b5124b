// Package killpoint names the moments between two steps of the manager at which dying is hardest to get right. A build
// with the tag killpoints can kill itself at one of them, so that a test need not hope to hit it; in any other build
// reaching one does nothing, and nothing outside the program can change that.
package killpoint

// Point is a moment between two steps.
type Point string

// The points, each right after the step that it names has taken effect elsewhere.
const (
	// AfterApply is when the service has made a token that is in no Secret yet.
	AfterApply Point = "after-apply"
	// AfterSecret is when the API server has taken the token Secret.
	AfterSecret Point = "after-secret"
	// AfterStatus is when the API server has taken the status.
	AfterStatus Point = "after-status"
	// AfterLedger is when tokens that must be revoked are in the ledger, and still in the token Secret.
	AfterLedger Point = "after-ledger"
	// AfterRevoke is when the service has revoked a token that is still on record.
	AfterRevoke Point = "after-revoke"
	// BeforeFinalizer is when a deleted grant has nothing left but its finalizer.
	BeforeFinalizer Point = "before-finalizer"
)

// Points lists them all.
func Points() []Point {
	return []Point{AfterApply, AfterSecret, AfterStatus, AfterLedger, AfterRevoke, BeforeFinalizer}
}
