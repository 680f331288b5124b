package main

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/simulator"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/simulator/broker"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/simulator/state"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/simulator/wire"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
)

// What a simulator knows without being told. The secret is no secret: it is in the documentation.
const (
	defaultKey      = "demo/simulator-key/simulator-secret"
	defaultInstance = "demo/cn-hangzhou/post-cn-simulator1"
)

// options are the flags as they were given.
type options struct {
	apiAddress, adminAddress                      string
	tcpAddress, tlsAddress, wsAddress, wssAddress string
	names                                         []string
	certificateFile, keyFile, caFile, writeCA     string
	printCA                                       bool
	keys, roles, instances                        []string
	quotas                                        state.Quotas
	switches                                      state.Switches
	latency, clockSkew                            time.Duration
	faults                                        []string
}

// addFlags defines every flag and its default.
func (o *options) addFlags(flags *pflag.FlagSet) {
	flags.StringVar(&o.apiAddress, "api-address", "127.0.0.1:8443", "where the OpenAPI listens (TLS)")
	flags.StringVar(&o.adminAddress, "admin-address", "127.0.0.1:8080", "where the admin endpoint listens (plain HTTP without authentication: keep it on loopback)")
	flags.StringVar(&o.tcpAddress, "mqtt-address", "127.0.0.1:1883", "where the broker listens for plain MQTT")
	flags.StringVar(&o.tlsAddress, "mqtts-address", "127.0.0.1:8883", "where the broker listens for MQTT over TLS")
	flags.StringVar(&o.wsAddress, "ws-address", "127.0.0.1:8083", "where the broker listens for MQTT over WebSocket")
	flags.StringVar(&o.wssAddress, "wss-address", "127.0.0.1:8084", "where the broker listens for MQTT over WebSocket and TLS")
	flags.StringSliceVar(&o.names, "tls-name", simulator.DefaultNames(), "host names and IP addresses in the server certificate; the first one is used in examples")
	flags.StringVar(&o.certificateFile, "tls-cert-file", "", "server certificate (PEM) to use instead of one made at start")
	flags.StringVar(&o.keyFile, "tls-key-file", "", "private key of --tls-cert-file")
	flags.StringVar(&o.caFile, "tls-ca-file", "", "CA certificate of --tls-cert-file, to hand out to clients")
	flags.StringVar(&o.writeCA, "write-ca", "", "file to write the CA certificate to")
	flags.BoolVar(&o.printCA, "print-ca", false, "print the CA certificate at start")
	flags.StringArrayVar(&o.keys, "access-key", []string{defaultKey}, "AccessKey as account/id/secret, or account/id/secret/security-token for a temporary one; repeatable")
	flags.StringArrayVar(&o.roles, "role", nil, "RAM role as account/name, account/name/provider for tokens of an OIDC provider, or account/name/provider/subject for those of one service account; repeatable")
	flags.StringArrayVar(&o.instances, "instance", []string{defaultInstance}, "instance as account/region/id, or account/region/id/topic/topic... where only these parent topics exist; repeatable")
	o.addBehaviourFlags(flags)
}

func (o *options) addBehaviourFlags(flags *pflag.FlagSet) {
	quotas := state.DefaultQuotas()
	flags.IntVar(&o.quotas.Apply, "quota-apply", quotas.Apply, "ApplyToken calls per second and account; 0: any number")
	flags.IntVar(&o.quotas.Query, "quota-query", quotas.Query, "QueryToken calls per second and account; 0: any number")
	flags.IntVar(&o.quotas.Revoke, "quota-revoke", quotas.Revoke, "RevokeToken calls per second and account; 0: any number")

	flags.BoolVar(&o.switches.IssuerKeyOnly, "issuer-key-only", false, "admit only the AccessKey that applied for the token in the MQTT username, instead of any of its account")
	flags.BoolVar(&o.switches.CutOnNextUse, "cut-on-next-use", false, "let a revocation end an open connection at its next publish or subscribe, instead of at once")
	flags.DurationVar(&o.switches.RevocationDelay, "revocation-delay", 0, "how long the broker does not know of a revocation")
	flags.BoolVar(&o.switches.StrictRevoke, "strict-revoke", false, "refuse to revoke a token that was never issued")
	flags.BoolVar(&o.switches.StrictOrder, "strict-order", false, "refuse topics that are not sorted")
	flags.BoolVar(&o.switches.NoExpireNotice, "no-expire-notice", false, "do not announce a token's end five minutes before")
	flags.BoolVar(&o.switches.RecheckSubscriptions, "recheck-subscriptions", false, "check each delivery against the tokens that the session holds by then")

	flags.DurationVar(&o.latency, "latency", 0, "how long each answer of the OpenAPI is held back")
	flags.DurationVar(&o.clockSkew, "clock-skew", 0, "how far the service's clock is ahead; may be negative")
	flags.StringArrayVar(&o.faults, "fault", nil, `fault of the OpenAPI, as in the admin endpoint's PUT /faults: {"kind":"Error","operation":"ApplyToken","rate":0.1,"status":500,"code":"SystemOverFlow"}; repeatable`)
}

// simulator turns the flags into the simulator's options, or says which flag is wrong.
func (o *options) simulator() (simulator.Options, error) {
	accounts, err := parseKeys(o.keys)
	if err != nil {
		return simulator.Options{}, err
	}
	if err := addRoles(accounts, o.roles); err != nil {
		return simulator.Options{}, err
	}
	instances, err := parseInstances(o.instances)
	if err != nil {
		return simulator.Options{}, err
	}
	faults, err := o.parseFaults()
	if err != nil {
		return simulator.Options{}, err
	}
	if o.quotas.Apply < 0 || o.quotas.Query < 0 || o.quotas.Revoke < 0 || o.switches.RevocationDelay < 0 {
		return simulator.Options{}, errors.New("quotas and --revocation-delay cannot be negative")
	}
	if len(o.names) == 0 {
		return simulator.Options{}, errors.New("--tls-name needs at least one name")
	}
	wanted := simulator.Options{
		Accounts: accounts, Instances: instances, Quotas: o.quotas, Switches: o.switches, Faults: faults,
		APIAddress: o.apiAddress, AdminAddress: o.adminAddress, Names: o.names,
		BrokerAddresses: map[broker.Kind]string{
			broker.TCP: o.tcpAddress, broker.TLS: o.tlsAddress, broker.WebSocket: o.wsAddress, broker.WebSocketTLS: o.wssAddress,
		},
	}
	if err := o.loadCertificate(&wanted); err != nil {
		return simulator.Options{}, err
	}
	return wanted, nil
}

// parseKeys reads the AccessKeys. Its errors count the flags instead of quoting them, because they hold secrets.
func parseKeys(flags []string) ([]state.Account, error) {
	var accounts []state.Account
	for i, flag := range flags {
		parts := strings.SplitN(flag, "/", 4)
		if len(parts) < 3 || slices.Contains(parts, "") {
			return nil, fmt.Errorf("--access-key number %d is not of the form account/id/secret", i+1)
		}
		key := state.Key{ID: parts[1], Secret: token.NewValue(parts[2])}
		if len(parts) == 4 {
			key.SecurityToken = token.NewValue(parts[3])
		}
		at := slices.IndexFunc(accounts, func(a state.Account) bool { return a.ID == parts[0] })
		if at < 0 {
			accounts, at = append(accounts, state.Account{ID: parts[0]}), len(accounts)
		}
		accounts[at].Keys = append(accounts[at].Keys, key)
	}
	return accounts, nil
}

func addRoles(accounts []state.Account, flags []string) error {
	for _, flag := range flags {
		parts := strings.SplitN(flag, "/", 4)
		at := slices.IndexFunc(accounts, func(a state.Account) bool { return a.ID == parts[0] })
		if len(parts) < 2 || slices.Contains(parts, "") || at < 0 {
			return fmt.Errorf("--role %q is not of the form account/name, or the account has no --access-key", flag)
		}
		role := state.Role{ARN: "acs:ram::" + parts[0] + ":role/" + parts[1]}
		if len(parts) > 2 {
			role.OIDCProviderARN = "acs:ram::" + parts[0] + ":oidc-provider/" + parts[2]
		}
		if len(parts) > 3 {
			role.OIDCSubject = parts[3]
		}
		accounts[at].Roles = append(accounts[at].Roles, role)
	}
	return nil
}

func parseInstances(flags []string) ([]state.Instance, error) {
	var instances []state.Instance
	for _, flag := range flags {
		parts := strings.Split(flag, "/")
		if len(parts) < 3 || slices.Contains(parts, "") {
			return nil, fmt.Errorf("--instance %q is not of the form account/region/id", flag)
		}
		instances = append(instances, state.Instance{Account: parts[0], Region: parts[1], ID: parts[2], Topics: parts[3:]})
	}
	return instances, nil
}

func (o *options) parseFaults() (wire.Faults, error) {
	faults := wire.Faults{Latency: wire.Duration(o.latency), ClockSkew: wire.Duration(o.clockSkew)}
	for _, flag := range o.faults {
		var fault wire.Fault
		decoder := json.NewDecoder(bytes.NewReader([]byte(flag)))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&fault); err != nil {
			return wire.Faults{}, fmt.Errorf("reading --fault %q: %w", flag, err)
		}
		faults.Calls = append(faults.Calls, fault)
	}
	return faults, faults.Validate()
}

func (o *options) loadCertificate(into *simulator.Options) error {
	files := []string{o.certificateFile, o.keyFile, o.caFile}
	if !slices.ContainsFunc(files, func(name string) bool { return name != "" }) {
		return nil
	}
	if slices.Contains(files, "") {
		return errors.New("--tls-cert-file, --tls-key-file and --tls-ca-file go together")
	}
	certificate, err := tls.LoadX509KeyPair(o.certificateFile, o.keyFile)
	if err != nil {
		return fmt.Errorf("reading the server certificate: %w", err)
	}
	ca, err := os.ReadFile(o.caFile)
	if err != nil {
		return fmt.Errorf("reading the CA certificate: %w", err)
	}
	into.Certificate, into.CAPEM = &certificate, ca
	return nil
}
