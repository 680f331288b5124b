package metrics_test

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/metrics"
)

func TestObserveCallCountsByOutcomeAndTimesByOperation(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	m := metrics.New(registry)
	m.ObserveCall("Apply", "ok", 30*time.Millisecond)
	m.ObserveCall("Apply", "Throttled", 2*time.Second)
	const want = `
# HELP mqtttoken_service_calls_total Calls to the token service by operation and outcome: ok or the kind of the error.
# TYPE mqtttoken_service_calls_total counter
mqtttoken_service_calls_total{operation="Apply",outcome="Throttled"} 1
mqtttoken_service_calls_total{operation="Apply",outcome="ok"} 1
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "mqtttoken_service_calls_total"); err != nil {
		t.Error(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != "mqtttoken_service_call_duration_seconds" {
			continue
		}
		histogram := family.GetMetric()[0].GetHistogram()
		if histogram.GetSampleCount() != 2 || histogram.GetSampleSum() != 2.03 {
			t.Errorf("timed %d calls of %v seconds", histogram.GetSampleCount(), histogram.GetSampleSum())
		}
	}
}

func TestPendingRevocationsAreShownByReason(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	m := metrics.New(registry)
	m.SetPendingRevocations("Held", 3)
	m.SetPendingRevocations("Deleted", 7)
	m.SetPendingRevocations("Held", 0)
	const want = `
# HELP mqtttoken_pending_revocations Tokens on record that must still be revoked, by the reason why they must go.
# TYPE mqtttoken_pending_revocations gauge
mqtttoken_pending_revocations{reason="Deleted"} 7
mqtttoken_pending_revocations{reason="Held"} 0
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "mqtttoken_pending_revocations"); err != nil {
		t.Error(err)
	}
}

func TestUnservedNamespacesAreCounted(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	metrics.New(registry).SetUnservedNamespaces(2)
	const want = `
# HELP mqtttoken_unserved_namespaces Namespaces that the manager was told to watch and may not read.
# TYPE mqtttoken_unserved_namespaces gauge
mqtttoken_unserved_namespaces 2
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "mqtttoken_unserved_namespaces"); err != nil {
		t.Error(err)
	}
}

func TestTheSkewIsTheLastOneSet(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	m := metrics.New(registry)
	for ahead, want := range map[time.Duration]string{10 * time.Minute: "600", -1500 * time.Millisecond: "-1.5", 0: "0"} {
		m.SetServiceClockSkew(ahead)
		want = `
# HELP mqtttoken_service_clock_skew_seconds How far the clock of the token service is ahead of ours, negative if it is behind, as last estimated.
# TYPE mqtttoken_service_clock_skew_seconds gauge
mqtttoken_service_clock_skew_seconds ` + want + "\n"
		if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "mqtttoken_service_clock_skew_seconds"); err != nil {
			t.Errorf("%s ahead: %v", ahead, err)
		}
	}
}

func TestMetricsKeepTheRulesForNamesAndLabels(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	m := metrics.New(registry)
	m.ObserveCall("Query", "ok", time.Second)
	m.SetPendingRevocations("Held", 1)
	problems, err := testutil.GatherAndLint(registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range problems {
		t.Errorf("%s: %s", problem.Metric, problem.Text)
	}
}
