package main

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
)

func TestValidate(t *testing.T) {
	for sentence, tc := range map[string]struct {
		change func(*options)
		want   string // empty: accepted
	}{
		"the defaults are accepted":             {change: func(*options) {}},
		"0 serves no metrics":                   {change: func(o *options) { o.metricsAddress = "0" }},
		"an address needs a port":               {change: func(o *options) { o.probeAddress = "localhost" }, want: "--health-probe-bind-address"},
		"metrics in plain text stay here":       {change: func(o *options) { o.metricsSecure, o.metricsAddress = false, "127.0.0.1:8080" }},
		"and go nowhere else":                   {change: func(o *options) { o.metricsSecure = false }, want: "--metrics-secure=false"},
		"a cluster's id is a label's value":     {change: func(o *options) { o.clusterID = "a b" }, want: "--cluster-id"},
		"no worker does no work":                {change: func(o *options) { o.workers = 0 }, want: "--workers"},
		"too many workers are a mistake":        {change: func(o *options) { o.workers = 65 }, want: "--workers"},
		"the lease needs a namespace":           {change: func(o *options) { o.namespace = "" }, want: "--namespace"},
		"some namespaces may be watched":        {change: func(o *options) { o.watchNamespaces = []string{"line-a", "2nd-line"} }},
		"no namespace at all is a mistake":      {change: func(o *options) { o.watchNamespaces = []string{} }, want: "--watch-namespaces: it is empty"},
		"a namespace has a name":                {change: func(o *options) { o.watchNamespaces = []string{"line-a", ""} }, want: `--watch-namespaces: ""`},
		"a namespace's name is a DNS label":     {change: func(o *options) { o.watchNamespaces = []string{"line.a"} }, want: `--watch-namespaces: "line.a"`},
		"a pattern is no namespace":             {change: func(o *options) { o.watchNamespaces = []string{"line-*"} }, want: `--watch-namespaces: "line-*"`},
		"an endpoint is a host and not a URL":   {change: func(o *options) { o.allowedEndpoints = []string{"https://x"} }, want: "--allowed-endpoints"},
		"an endpoint may have a port":           {change: func(o *options) { o.allowedEndpoints = []string{"localhost:8443"} }},
		"an empty endpoint would allow nothing": {change: func(o *options) { o.allowedEndpoints = []string{""} }, want: "--allowed-endpoints"},
		"a deletion may wait ten seconds":       {change: func(o *options) { o.revocationDeadline = 10 * time.Second }},
		"a deletion needs time for a call":      {change: func(o *options) { o.revocationDeadline = 9 * time.Second }, want: "--revocation-deadline"},
		"a deletion may wait an hour":           {change: func(o *options) { o.revocationDeadline = time.Hour }},
		"a deletion does not wait for ever":     {change: func(o *options) { o.revocationDeadline = time.Hour + 1 }, want: "--revocation-deadline"},
		"a deletion that never waits":           {change: func(o *options) { o.revocationDeadline = 0 }, want: "--revocation-deadline"},
		"tokens need not be checked":            {change: func(o *options) { o.verifyInterval = 0 }},
		"tokens may be checked often":           {change: func(o *options) { o.verifyInterval = 10 * time.Minute }},
		"tokens may be checked rarely":          {change: func(o *options) { o.verifyInterval = 8760 * time.Hour }},
		"tokens are not checked all the time":   {change: func(o *options) { o.verifyInterval = time.Minute }, want: "--verify-interval"},
		"an interval has a direction":           {change: func(o *options) { o.verifyInterval = -time.Hour }, want: "--verify-interval"},
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

func TestTheNamespacesToWatch(t *testing.T) {
	for sentence, tc := range map[string]struct {
		arguments []string
		want      []string
		wantFault bool
	}{
		"all of them":                           {},
		"several, separated by commas":          {arguments: []string{"--watch-namespaces=line-a,line-b"}, want: []string{"line-a", "line-b"}},
		"several flags":                         {arguments: []string{"--watch-namespaces=line-a", "--watch-namespaces=line-b"}, want: []string{"line-a", "line-b"}},
		"a variable that was not set is no all": {arguments: []string{"--watch-namespaces="}, want: []string{}, wantFault: true},
	} {
		t.Run(sentence, func(t *testing.T) {
			o, flags := defaults(), pflag.NewFlagSet("manager", pflag.ContinueOnError)
			o.addFlags(flags)
			if err := flags.Parse(tc.arguments); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, o.watchNamespaces); diff != "" {
				t.Error(diff)
			}
			if err := o.validate(); (err != nil) != tc.wantFault {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestTheFlagsForTime(t *testing.T) {
	for sentence, tc := range map[string]struct {
		arguments          []string
		revocation, verify time.Duration
	}{
		"the defaults": {nil, 2 * time.Minute, 24 * time.Hour},
		"both given":   {[]string{"--revocation-deadline=45s", "--verify-interval=0"}, 45 * time.Second, 0},
	} {
		t.Run(sentence, func(t *testing.T) {
			o, flags := defaults(), pflag.NewFlagSet("manager", pflag.ContinueOnError)
			o.addFlags(flags)
			if err := flags.Parse(tc.arguments); err != nil {
				t.Fatal(err)
			}
			if o.revocationDeadline != tc.revocation || o.verifyInterval != tc.verify {
				t.Errorf("got %s and %s", o.revocationDeadline, o.verifyInterval)
			}
		})
	}
}
