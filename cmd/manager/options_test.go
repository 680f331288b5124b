package main

import (
	"strings"
	"testing"
)

func TestValidate(t *testing.T) {
	for sentence, tc := range map[string]struct {
		change func(*options)
		want   string // empty: accepted
	}{
		"the defaults are accepted":             {change: func(*options) {}},
		"0 serves no metrics":                   {change: func(o *options) { o.metricsAddress = "0" }},
		"an address needs a port":               {change: func(o *options) { o.probeAddress = "localhost" }, want: "--health-probe-bind-address"},
		"no worker does no work":                {change: func(o *options) { o.workers = 0 }, want: "--workers"},
		"too many workers are a mistake":        {change: func(o *options) { o.workers = 65 }, want: "--workers"},
		"the lease needs a namespace":           {change: func(o *options) { o.namespace = "" }, want: "--namespace"},
		"an endpoint is a host and not a URL":   {change: func(o *options) { o.allowedEndpoints = []string{"https://x"} }, want: "--allowed-endpoints"},
		"an endpoint may have a port":           {change: func(o *options) { o.allowedEndpoints = []string{"localhost:8443"} }},
		"an empty endpoint would allow nothing": {change: func(o *options) { o.allowedEndpoints = []string{""} }, want: "--allowed-endpoints"},
	} {
		t.Run(sentence, func(t *testing.T) {
			o := defaults()
			tc.change(&o)
			err := o.validate()
			switch {
			case tc.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("got %v, want an error that names %s", err, tc.want)
			}
		})
	}
}

func TestAllFaultsAreToldAtOnce(t *testing.T) {
	o := defaults()
	o.workers, o.namespace = 0, ""
	err := o.validate()
	if err == nil || !strings.Contains(err.Error(), "--workers") || !strings.Contains(err.Error(), "--namespace") {
		t.Errorf("got %v, want both faults", err)
	}
}
