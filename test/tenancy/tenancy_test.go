package tenancy_test

import "testing"

// TestTenants runs every attempt against one cluster; each works on objects of its own.
func TestTenants(t *testing.T) {
	s := newStage(t)
	t.Run("pod", s.runsRestricted)
	t.Run("metrics", s.servesMetricsToWhomTheAPIServerAllows)
	for _, attacks := range []map[string]func(attack){
		refusedByTheAPI(), refusedByTheAuthorizer(), deniedByTheRules(), aboutSecrets(), aboutWithdrawal(), aboutInstances(),
	} {
		for sentence, attempt := range attacks {
			t.Run(sentence, func(t *testing.T) { s.run(t, attempt) })
		}
	}
	if !t.Failed() && !testing.Short() {
		t.Run("rights", s.needsEachRightThatItHas)
		t.Run("namespaces", s.worksWithoutSeeingNamespaces)
	}
}
