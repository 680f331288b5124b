// Package metrics holds the measurements that packages below the controllers report. Labels come from small fixed
// sets: no name of an object, topic or client is one.
package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics counts and times the calls to the token service, shows what waits for one and what is not served, and tells
// how the service's clock differs from ours.
type Metrics struct {
	calls     *prometheus.CounterVec
	durations *prometheus.HistogramVec
	pending   *prometheus.GaugeVec
	skew      prometheus.Gauge
	unserved  prometheus.Gauge
}

// New registers the metrics. It panics when the registerer already has them: that is a mistake in the wiring.
func New(registerer prometheus.Registerer) *Metrics {
	m := &Metrics{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mqtttoken_service_calls_total",
			Help: "Calls to the token service by operation and outcome: ok or the kind of the error.",
		}, []string{"operation", "outcome"}),
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "mqtttoken_service_call_duration_seconds",
			Help: "How long calls to the token service took, whatever their outcome.",
			// From a quick answer inside one region to the default bound of a call.
			Buckets: []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 15},
		}, []string{"operation"}),
		skew: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "mqtttoken_service_clock_skew_seconds",
			Help: "How far the clock of the token service is ahead of ours, negative if it is behind, as last estimated.",
		}),
		unserved: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "mqtttoken_unserved_namespaces",
			Help: "Namespaces that the manager was told to watch and may not read.",
		}),
		pending: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "mqtttoken_pending_revocations",
			Help: "Tokens on record that must still be revoked, by the reason why they must go.",
		}, []string{"reason"}),
	}
	registerer.MustRegister(m.calls, m.durations, m.pending, m.skew, m.unserved)
	return m
}

// ObserveCall reports one finished call.
func (m *Metrics) ObserveCall(operation, outcome string, took time.Duration) {
	m.calls.WithLabelValues(operation, outcome).Inc()
	m.durations.WithLabelValues(operation).Observe(took.Seconds())
}

// SetServiceClockSkew reports how far the service's clock is ahead of ours; negative if it is behind.
func (m *Metrics) SetServiceClockSkew(ahead time.Duration) { m.skew.Set(ahead.Seconds()) }

// SetPendingRevocations shows how many tokens must still be revoked for a reason.
func (m *Metrics) SetPendingRevocations(reason string, count int) {
	m.pending.WithLabelValues(reason).Set(float64(count))
}

// SetUnservedNamespaces shows how many namespaces the manager was told to watch and may not read.
func (m *Metrics) SetUnservedNamespaces(count int) { m.unserved.Set(float64(count)) }
