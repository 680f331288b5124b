package main

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"time"
)

// kind names a fault.
type kind string

// Faults of the manager's processes and of the control plane: one at a time.
const (
	killLeader          kind = "kill-leader"
	killAfterApply      kind = "kill-after-apply"
	killAfterSecret     kind = "kill-after-secret"
	killAfterStatus     kind = "kill-after-status"
	killAfterLedger     kind = "kill-after-ledger"
	killAfterRevoke     kind = "kill-after-revoke"
	killBeforeFinalizer kind = "kill-before-finalizer"
	freezeLeader        kind = "freeze-leader"
	endLeader           kind = "end-leader"
	restartAPIServer    kind = "restart-api-server"
	killAPIServer       kind = "kill-api-server"
	freezeAPIServer     kind = "freeze-api-server"
	freezeStore         kind = "freeze-store"
)

// Faults of the service, and what people do: one at a time, beside those above.
const (
	outage          kind = "outage"
	errorStorm      kind = "error-storm"
	throttling      kind = "throttling"
	slowService     kind = "slow-service"
	dropReply       kind = "drop-reply"
	resetReply      kind = "reset-reply"
	loseRevokeReply kind = "lose-revoke-reply"
	clockSkew       kind = "clock-skew"
	widen           kind = "widen"
	narrow          kind = "narrow"
	moveClient      kind = "move-client"
	moveInstance    kind = "move-instance"
	hold            kind = "hold"
	reissue         kind = "reissue"
	editPassword    kind = "edit-password"
	dropKey         kind = "drop-key"
	dropLabels      kind = "drop-labels"
	dropAnnotations kind = "drop-annotations"
	dropOwner       kind = "drop-owner"
	dropFinalizer   kind = "drop-finalizer"
	deleteSecret    kind = "delete-secret"
	immutable       kind = "immutable"
	stripHold       kind = "strip-hold"
	stripDelete     kind = "strip-delete"
	lostInstance    kind = "lost-instance"
	deleteGrant     kind = "delete-grant"
	deleteMany      kind = "delete-many"
	deleteNamespace kind = "delete-namespace"
	deleteInstance  kind = "delete-instance"
)

func processKinds() []kind {
	return []kind{
		killLeader, killAfterApply, killAfterSecret, killAfterStatus, killAfterLedger, killAfterRevoke, killBeforeFinalizer,
		freezeLeader, endLeader, restartAPIServer, killAPIServer, freezeAPIServer, freezeStore,
	}
}

func workKinds() []kind {
	return []kind{
		outage, errorStorm, throttling, slowService, dropReply, resetReply, loseRevokeReply, clockSkew, widen, narrow, moveClient,
		moveInstance, hold, reissue, editPassword, dropKey, dropLabels, dropAnnotations, dropOwner, dropFinalizer, deleteSecret,
		immutable, stripHold, stripDelete, lostInstance, deleteGrant, deleteMany, deleteNamespace, deleteInstance,
	}
}

func isKind(k kind) bool {
	return slices.Contains(processKinds(), k) || slices.Contains(workKinds(), k)
}

// fault is one entry of the schedule.
type fault struct {
	kind kind
	// pause is how long to wait after the fault before.
	pause time.Duration
	// dice decides what the fault leaves open: whom it hits, how long, how hard.
	dice [4]uint32
}

// among picks one of n by one of the fault's dice.
func (f fault) among(die, n int) int { return int(f.dice[die] % uint32(n)) }

// between picks a duration in whole milliseconds by one of the fault's dice.
func (f fault) between(die int, least, most time.Duration) time.Duration {
	return least + time.Duration(f.among(die, int((most-least).Milliseconds())+1))*time.Millisecond
}

// schedule lists faults of some kinds, longer than any run: each kind once in an order of its own, then again in another
// order, and so on. It depends on nothing but its arguments.
func schedule(seed, lane uint64, kinds []kind, least, most time.Duration) []fault {
	const rounds = 64
	random := rand.New(rand.NewPCG(seed, lane))
	var all []fault
	for range rounds {
		var round []fault
		for _, i := range random.Perm(len(kinds)) {
			f := fault{kind: kinds[i]}
			for die := range f.dice {
				f.dice[die] = random.Uint32()
			}
			f.pause = least + time.Duration(random.Int64N(int64(most-least)+1)).Round(time.Millisecond)
			round = append(round, f)
		}
		// A short run should see each kill point at least.
		slices.SortStableFunc(round, func(a, b fault) int { return cmp.Compare(rank(a.kind), rank(b.kind)) })
		all = append(all, round...)
	}
	return all
}

// rank is 0 for the kill points.
func rank(k kind) int {
	switch k {
	case killAfterApply, killAfterSecret, killAfterStatus, killAfterLedger, killAfterRevoke, killBeforeFinalizer:
		return 0
	default:
		return 1
	}
}

// only leaves the kinds that are wanted; no wish wants all.
func only(kinds []kind, wanted []string) []kind {
	if len(wanted) == 0 {
		return kinds
	}
	return slices.DeleteFunc(slices.Clone(kinds), func(k kind) bool { return !slices.Contains(wanted, string(k)) })
}
