package v1alpha1_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"
)

// The smallest objects that are accepted; a row sets fields in them, or takes them away with nil.
const (
	smallGrant = `
apiVersion: mqtt.tokengrant.dev/v1alpha1
kind: MqttTokenGrant
metadata: {name: press, namespace: default}
spec:
  instanceRef: {name: factory}
  client: {groupID: GID_line_a}
  topics: [{filter: a, actions: [Publish]}]
`
	smallInstance = `
apiVersion: mqtt.tokengrant.dev/v1alpha1
kind: MqttInstance
metadata: {name: factory, namespace: default}
spec:
  instanceID: post-cn-0pp12gl0001
  regionID: cn-hangzhou
  credentials: {type: AccessKey, accessKey: {secretRef: {name: ak}}}
`
	smallRule = `{namespaces: {from: Same}, groupIDs: [GID_a], topics: [{filter: a, actions: [Publish]}]}`
)

// set maps fields, in dots, to the YAML to set them to.
type set = map[string]string

func TestGrantRules(t *testing.T) {
	const (
		comma    = "must not contain ',' or '|': write one list item per topic"
		broker   = "must not begin with '$'"
		control  = "must not contain control characters"
		hash     = "'#' must be the whole last level"
		plus     = "'+' must be a whole level"
		duration = "must be a duration in whole hours, minutes and seconds"
	)
	table := map[string]struct {
		set  set
		want string // part of the refusal; empty: accepted
	}{
		"the smallest grant": {},

		"a name of 63 characters":             {set{"metadata.name": long("x", 63)}, ""},
		"a name of 64 characters":             {set{"metadata.name": long("x", 64)}, "the name must not exceed 63 characters"},
		"no instance":                         {set{"spec.instanceRef": ""}, "spec.instanceRef"},
		"an instance without a name":          {set{"spec.instanceRef": "{namespace: x}"}, "spec.instanceRef.name"},
		"an empty instance name":              {set{"spec.instanceRef.name": `""`}, "at least 1 chars"},
		"an empty instance namespace":         {set{"spec.instanceRef.namespace": `""`}, "at least 1 chars"},
		"an instance namespace of 64":         {set{"spec.instanceRef.namespace": long("x", 64)}, "Too long"},
		"an instance name of 254":             {set{"spec.instanceRef.name": long("x", 254)}, "Too long"},
		"no client":                           {set{"spec.client": ""}, "spec.client"},
		"a group with a hyphen":               {set{"spec.client.groupID": "GID-line"}, ""},
		"a group of six characters":           {set{"spec.client.groupID": "GID_ab"}, "at least 7 chars"},
		"a group of 60 characters":            {set{"spec.client.groupID": "GID_" + long("x", 56)}, ""},
		"a group of 61 characters":            {set{"spec.client.groupID": "GID_" + long("x", 57)}, "Too long"},
		"a group without its prefix":          {set{"spec.client.groupID": "my_group"}, "must begin with GID_ or GID-"},
		"a group with an @":                   {set{"spec.client.groupID": "GID_a@@@b"}, "must begin with GID_ or GID-"},
		"a group with a line feed at its end": {set{"spec.client.groupID": `"GID_abc\n"`}, "must begin with GID_ or GID-"},
		"a device":                            {set{"spec.client.deviceID": "press_07-A"}, ""},
		"an empty device":                     {set{"spec.client.deviceID": `""`}, "at least 1 chars"},
		"a device with a slash":               {set{"spec.client.deviceID": "a/b"}, "may hold letters, digits, '-' and '_' only"},
		"a device with a comma":               {set{"spec.client.deviceID": "'a,b'"}, "may hold letters, digits, '-' and '_' only"},
		"a client id of 64 characters":        {set{"spec.client.deviceID": long("x", 51)}, ""},
		"a client id of 65 characters":        {set{"spec.client.deviceID": long("x", 52)}, "together must not exceed 64 characters"},
		"a device of 58 characters":           {set{"spec.client.deviceID": long("x", 58)}, "Too long"},
		"a field that nobody knows":           {set{"spec.validty": "24h"}, `unknown field "spec.validty"`},

		"a filter with wildcards":         {set{"spec.topics": topics("+/a/+/#")}, ""},
		"# alone":                         {set{"spec.topics": topics("#")}, ""},
		"+ alone":                         {set{"spec.topics": topics("+")}, ""},
		"empty levels":                    {set{"spec.topics": topics("/a//b/")}, ""},
		"64 characters":                   {set{"spec.topics": topics(long("x", 64))}, ""},
		"64 characters of three bytes":    {set{"spec.topics": topics(long("温", 64))}, ""},
		"65 characters":                   {set{"spec.topics": topics(long("x", 65))}, "Too long"},
		"an empty filter":                 {set{"spec.topics": topics("")}, "at least 1 chars"},
		"a comma":                         {set{"spec.topics": topics("a,b")}, comma},
		"a pipe":                          {set{"spec.topics": topics("a|b")}, comma},
		"a leading $":                     {set{"spec.topics": topics("$SYS/x")}, broker},
		"a later $":                       {set{"spec.topics": topics("a/$x")}, ""},
		"a line feed":                     {set{"spec.topics": topics(`a\nb`)}, control},
		"a NUL":                           {set{"spec.topics": topics(`a\0`)}, control},
		"a C1 control character":          {set{"spec.topics": topics(`a\u0085`)}, control},
		"the replacement character":       {set{"spec.topics": topics(`a\ufffd`)}, control},
		"# within a level":                {set{"spec.topics": topics("a/b#")}, hash},
		"# before the last level":         {set{"spec.topics": topics("a/#/b")}, hash},
		"+ after a letter":                {set{"spec.topics": topics("a/b+")}, plus},
		"+ before a letter":               {set{"spec.topics": topics("+b/a")}, plus},
		"both actions":                    {set{"spec.topics": "[{filter: a, actions: [Publish, Subscribe]}]"}, ""},
		"an action twice":                 {set{"spec.topics": "[{filter: a, actions: [Publish, Publish]}]"}, "Duplicate value"},
		"no action":                       {set{"spec.topics": "[{filter: a, actions: []}]"}, "at least 1 items"},
		"an action of the wire":           {set{"spec.topics": "[{filter: a, actions: [RW]}]"}, `supported values: "Publish", "Subscribe"`},
		"a filter twice":                  {set{"spec.topics": topics("a", "a")}, "Duplicate value"},
		"no topics":                       {set{"spec.topics": "[]"}, "at least 1 items"},
		"300 topics, 100 of each kind":    {set{"spec.topics": many(100, 100, 100)}, ""},
		"301 topics":                      {set{"spec.topics": many(100, 101, 100)}, "must have at most 300 items"},
		"101 topics to publish":           {set{"spec.topics": many(101, 1, 1)}, "at most 100 topics can be publish-only"},
		"101 topics to subscribe to":      {set{"spec.topics": many(1, 101, 1)}, "at most 100 topics can be subscribe-only"},
		"101 topics both ways":            {set{"spec.topics": many(1, 1, 101)}, "at most 100 topics can have both actions"},
		"the shortest validity":           {set{"spec.validity": "2m"}, ""},
		"the longest validity":            {set{"spec.validity": "720h"}, ""},
		"a validity in parts":             {set{"spec.validity": "1h30m10s"}, ""},
		"a validity of a second too few":  {set{"spec.validity": "119s"}, "must be between 2m and 720h"},
		"a validity of a second too many": {set{"spec.validity": "720h1s"}, "must be between 2m and 720h"},
		"a validity in days":              {set{"spec.validity": "1d"}, duration},
		"a validity below zero":           {set{"spec.validity": "-1h"}, duration},
		"a validity in parts of an hour":  {set{"spec.validity": "1.5h"}, duration},
		"a validity without a unit":       {set{"spec.validity": "'60'"}, duration},
		"a validity that overflows":       {set{"spec.validity": "99999999999h"}, duration},
		"an empty validity":               {set{"spec.validity": `""`}, "at least 2 chars"},
		"a validity of 17 characters":     {set{"spec.validity": "0000000000000024h"}, "Too long"},

		"the shortest renewBefore":       {set{"spec.renewBefore": "10s"}, ""},
		"a renewBefore below it":         {set{"spec.renewBefore": "9s"}, "must be at least 10s"},
		"renewBefore of 80 %":            {set{"spec.validity": "100m", "spec.renewBefore": "80m"}, ""},
		"renewBefore of more than 80 %":  {set{"spec.validity": "100m", "spec.renewBefore": "80m1s"}, "renewBefore must be at most 80 % of validity"},
		"renewBefore beyond the default": {set{"spec.renewBefore": "20h"}, "renewBefore must be at most 80 % of validity"},
		"renewBefore that overflows":     {set{"spec.renewBefore": "99999999999h"}, duration},
		"renewBefore in days":            {set{"spec.renewBefore": "1d"}, duration},
		"renewBefore twice":              {set{"spec.renewBefore": "8h", "spec.renewBeforePercentage": "30"}, "set renewBefore or renewBeforePercentage, not both"},
		"renewBefore of 1 percent":       {set{"spec.renewBeforePercentage": "1"}, ""},
		"renewBefore of 80 percent":      {set{"spec.renewBeforePercentage": "80"}, ""},
		"renewBefore of 81 percent":      {set{"spec.renewBeforePercentage": "81"}, "less than or equal to 80"},
		"renewBefore of 0 percent":       {set{"spec.renewBeforePercentage": "0"}, "greater than or equal to 1"},
		"no overlap":                     {set{"spec.overlap": "0s"}, ""},
		"an overlap of an hour":          {set{"spec.overlap": "1h"}, ""},
		"an overlap of more":             {set{"spec.overlap": "61m"}, "must be at most 1h"},
		"an overlap that overflows":      {set{"spec.overlap": "99999999999h"}, duration},
		"an overlap in days":             {set{"spec.overlap": "1d"}, duration},

		"a Secret by name":                  {set{"spec.secret.name": "press.mqtt-1"}, ""},
		"a Secret in upper case":            {set{"spec.secret.name": "Press"}, "must be a valid Secret name"},
		"an empty Secret name":              {set{"spec.secret.name": `""`}, "at least 1 chars"},
		"empty labels and template":         {set{"spec.secret": "{labels: {}, annotations: {}, template: {}}"}, ""},
		"a label of ours":                   {set{"spec.secret.labels": "{mqtt.tokengrant.dev/x: a}"}, "labels must not use the prefix mqtt.tokengrant.dev/"},
		"an annotation of ours":             {set{"spec.secret.annotations": "{mqtt.tokengrant.dev/x: a}"}, "annotations must not use the prefix mqtt.tokengrant.dev/"},
		"32 labels":                         {set{"spec.secret.labels": keys(32)}, ""},
		"33 labels":                         {set{"spec.secret.labels": keys(33)}, "must have at most 32 items"},
		"33 annotations":                    {set{"spec.secret.annotations": keys(33)}, "must have at most 32 items"},
		"16 templates":                      {set{"spec.secret.template": keys(16)}, ""},
		"17 templates":                      {set{"spec.secret.template": keys(17)}, "must have at most 16 items"},
		"the environment format":            {set{"spec.secret.format": "Env"}, ""},
		"a format that nobody knows":        {set{"spec.secret.format": "JSON"}, `supported values: "Files", "Env"`},
		"abandoning":                        {set{"spec.deletionPolicy": "Abandon"}, ""},
		"a deletion policy that nobody has": {set{"spec.deletionPolicy": "Keep"}, `supported values: "Revoke", "Abandon"`},
		"suspended":                         {set{"spec.suspend": "true"}, ""},
		"suspended by a word":               {set{"spec.suspend": "'yes'"}, "must be of type boolean"},
	}
	check(t, smallGrant, table)
}

func TestInstanceRules(t *testing.T) {
	const (
		plain    = "may hold letters, digits, '-' and '_' only"
		duration = "must be a duration in whole hours, minutes and seconds"
		port     = "less than or equal to 65535"
	)
	rule := func(field, value string) set {
		return set{"spec.accessRules": "[" + smallRule + "]", "rule." + field: value}
	}
	table := map[string]struct {
		set  set
		want string // part of the refusal; empty: accepted
	}{
		"the smallest instance": {},

		"no instance id":                 {set{"spec.instanceID": ""}, "spec.instanceID"},
		"an instance id with a slash":    {set{"spec.instanceID": "a/b"}, plain},
		"an instance id of 65":           {set{"spec.instanceID": long("x", 65)}, "Too long"},
		"no region":                      {set{"spec.regionID": ""}, "spec.regionID"},
		"a region in upper case":         {set{"spec.regionID": "CN"}, "may hold lower case letters, digits and '-' only"},
		"a region that is a host":        {set{"spec.regionID": "a.evil.example"}, "may hold lower case letters, digits and '-' only"},
		"the private network":            {set{"spec.network": "VPC"}, ""},
		"a network that nobody knows":    {set{"spec.network": "vpc"}, `supported values: "Public", "VPC"`},
		"an endpoint with a port":        {set{"spec.endpoint": "onsmqtt.example.com:8443"}, ""},
		"an endpoint with a scheme":      {set{"spec.endpoint": "http://a"}, "must be a host with an optional port"},
		"an endpoint with a path":        {set{"spec.endpoint": "a/b"}, "must be a host with an optional port"},
		"an endpoint with a user":        {set{"spec.endpoint": "u@a"}, "must be a host with an optional port"},
		"a CA with an endpoint":          {set{"spec.endpoint": "a", "spec.caBundle": "PEM"}, ""},
		"a CA without an endpoint":       {set{"spec.caBundle": "PEM"}, "caBundle needs an endpoint"},
		"a CA of more than 64 KiB":       {set{"spec.endpoint": "a", "spec.caBundle": long("x", 65537)}, "Too long"},
		"no credentials":                 {set{"spec.credentials": ""}, "spec.credentials"},
		"a type without its member":      {set{"spec.credentials": "{type: AccessKey}"}, "accessKey must be set exactly when type is AccessKey"},
		"a member without its type":      {set{"spec.credentials": "{accessKey: {secretRef: {name: ak}}}"}, "spec.credentials.type"},
		"the manager's own role":         {set{"spec.credentials": "{type: RRSA}", "spec.clientAccessKeyID": "LTAI5t"}, ""},
		"a role by name":                 {set{"spec.credentials": "{type: RRSA, rrsa: {roleARN: 'acs:ram::1001:role/mqtt', oidcProviderARN: 'acs:ram::1001:oidc-provider/ack'}}", "spec.clientAccessKeyID": "LTAI5t"}, ""},
		"a role that is none":            {set{"spec.credentials": "{type: RRSA, rrsa: {roleARN: mqtt}}", "spec.clientAccessKeyID": "LTAI5t"}, "must be the ARN of a role"},
		"a provider that is none":        {set{"spec.credentials": "{type: RRSA, rrsa: {oidcProviderARN: 'acs:ram::1001:role/mqtt'}}", "spec.clientAccessKeyID": "LTAI5t"}, "must be the ARN of an OIDC provider"},
		"the machine's role":             {set{"spec.credentials": "{type: ECSRAMRole, ecsRAMRole: {roleName: mqtt}}", "spec.clientAccessKeyID": "LTAI5t"}, ""},
		"a machine's role with a path":   {set{"spec.credentials": "{type: ECSRAMRole, ecsRAMRole: {roleName: ../x}}", "spec.clientAccessKeyID": "LTAI5t"}, "may hold letters, digits"},
		"whatever there is":              {set{"spec.credentials": "{type: Ambient}", "spec.clientAccessKeyID": "LTAI5t"}, ""},
		"a role of another type":         {set{"spec.credentials": "{type: Ambient, rrsa: {roleARN: 'acs:ram::1001:role/mqtt'}}", "spec.clientAccessKeyID": "LTAI5t"}, "rrsa must not be set unless type is RRSA"},
		"a machine's role of another":    {set{"spec.credentials": "{type: Ambient, ecsRAMRole: {roleName: x}}", "spec.clientAccessKeyID": "LTAI5t"}, "ecsRAMRole must not be set unless type is ECSRAMRole"},
		"a temporary key for clients":    {set{"spec.credentials": "{type: Ambient}"}, "clientAccessKeyID must be set"},
		"an assumed role's key":          {set{"spec.credentials.assumeRole": "{roleARN: 'acs:ram::1002:role/mqtt'}"}, "clientAccessKeyID must be set"},
		"an assumed role":                {set{"spec.credentials.assumeRole": "{roleARN: 'acs:ram::1002:role/mqtt', externalID: plant}", "spec.clientAccessKeyID": "LTAI5t"}, ""},
		"an assumed role that is none":   {set{"spec.credentials.assumeRole": "{roleARN: mqtt}", "spec.clientAccessKeyID": "LTAI5t"}, "must be the ARN of a role"},
		"a type that nobody knows":       {set{"spec.credentials.type": "Password"}, `supported values: "AccessKey"`},
		"a credential without a Secret":  {set{"spec.credentials.accessKey": "{}"}, "spec.credentials.accessKey.secretRef"},
		"an empty Secret name":           {set{"spec.credentials.accessKey.secretRef.name": `""`}, "at least 1 chars"},
		"a Secret of another namespace":  {set{"spec.credentials.accessKey.secretRef.name": "../elsewhere/ak"}, "must be the name of a Secret in this namespace"},
		"a key id for clients":           {set{"spec.clientAccessKeyID": "LTAI5tExample"}, ""},
		"a key id that is temporary":     {set{"spec.clientAccessKeyID": "STS.NUxxx"}, "an id that begins with STS. is temporary"},
		"a key id with a pipe":           {set{"spec.clientAccessKeyID": "a|b"}, plain},
		"an empty broker":                {set{"spec.broker": "{}"}, ""},
		"a broker host":                  {set{"spec.broker.host": "b.example.com"}, ""},
		"a broker host with a port":      {set{"spec.broker.host": "b:8883"}, "without scheme or port"},
		"a broker host with a scheme":    {set{"spec.broker.host": "mqtts://b"}, "without scheme or port"},
		"a port of 65535":                {set{"spec.broker.ports.tls": "65535"}, ""},
		"a TLS port of 65536":            {set{"spec.broker.ports.tls": "65536"}, port},
		"a WSS port of 65536":            {set{"spec.broker.ports.wss": "65536"}, port},
		"a TCP port of 65536":            {set{"spec.broker.ports.tcp": "65536"}, port},
		"a port of 0":                    {set{"spec.broker.ports.tls": "0"}, "greater than or equal to 1"},
		"the account's whole quota":      {set{"spec.quota": "{applyPerSecond: 100, queryPerSecond: 100, revokePerSecond: 5}"}, ""},
		"more applies than there are":    {set{"spec.quota.applyPerSecond": "101"}, "less than or equal to 100"},
		"more queries than there are":    {set{"spec.quota.queryPerSecond": "101"}, "less than or equal to 100"},
		"more revokes than there are":    {set{"spec.quota.revokePerSecond": "6"}, "less than or equal to 5"},
		"no applies":                     {set{"spec.quota.applyPerSecond": "0"}, "greater than or equal to 1"},
		"an unknown field":               {set{"spec.rules": "[]"}, `unknown field "spec.rules"`},
		"no rules, said":                 {set{"spec.accessRules": "[]"}, ""},
		"a smallest rule":                {set{"spec.accessRules": "[" + smallRule + "]"}, ""},
		"64 rules":                       {set{"spec.accessRules": "[" + strings.Repeat(smallRule+", ", 63) + smallRule + "]"}, ""},
		"65 rules":                       {set{"spec.accessRules": "[" + strings.Repeat(smallRule+", ", 64) + smallRule + "]"}, "must have at most 64 items"},
		"all namespaces":                 {rule("namespaces.from", "All"), ""},
		"namespaces by label":            {rule("namespaces", "{from: Selector, selector: {matchLabels: {a: b}}}"), ""},
		"a selector that is missing":     {rule("namespaces.from", "Selector"), "selector must be set exactly when from is Selector"},
		"a selector too many":            {rule("namespaces.selector", "{}"), "selector must be set exactly when from is Selector"},
		"namespaces that nobody knows":   {rule("namespaces.from", "Any"), `supported values: "Same", "All", "Selector"`},
		"a rule without groups":          {rule("groupIDs", ""), "groupIDs"},
		"a rule with no group":           {rule("groupIDs", "[]"), "at least 1 items"},
		"a rule with an empty group":     {rule("groupIDs", "['']"), "at least 1 chars"},
		"a group pattern twice":          {rule("groupIDs", "[a, a]"), "Duplicate value"},
		"a rule with no device":          {rule("deviceIDs", "[]"), "at least 1 items"},
		"device patterns":                {rule("deviceIDs", "['{namespace}-*']"), ""},
		"a device pattern of 129":        {rule("deviceIDs", "["+long("x", 129)+"]"), "Too long"},
		"a rule without topics":          {rule("topics", "[]"), "at least 1 items"},
		"a rule with variables":          {rule("topics", topics("{namespace}/{groupID}/{deviceID}/#")), ""},
		"a rule with another variable":   {rule("topics", topics("{node}/#")), "the only variables are {namespace}, {groupID} and {deviceID}"},
		"a rule with a lone brace":       {rule("topics", topics("a}")), "the only variables are"},
		"a rule with a split variable":   {rule("topics", topics("{name{groupID}space}")), "the only variables are"},
		"a rule with a comma":            {rule("topics", topics("a,b")), "must not contain ',' or '|'"},
		"a rule with a leading $":        {rule("topics", topics("$SYS/#")), "must not begin with '$'"},
		"a rule with a line feed":        {rule("topics", topics(`a\n`)), "must not contain control characters"},
		"a rule with # in a level":       {rule("topics", topics("a#")), "'#' must be the whole last level"},
		"a rule with + beside variables": {rule("topics", topics("{namespace}+")), "'+' must be a whole level"},
		"a rule filter of 129":           {rule("topics", topics(long("x", 129))), "Too long"},
		"a rule with an unknown action":  {rule("topics", "[{filter: a, actions: [Own]}]"), `supported values: "Publish", "Subscribe"`},
		"the longest maxValidity":        {rule("maxValidity", "720h"), ""},
		"the shortest maxValidity":       {rule("maxValidity", "2m"), ""},
		"a longer maxValidity":           {rule("maxValidity", "721h"), "must be between 2m and 720h"},
		"a shorter maxValidity":          {rule("maxValidity", "1m"), "must be between 2m and 720h"},
		"a maxValidity in days":          {rule("maxValidity", "1d"), duration},
		"a maxValidity that overflows":   {rule("maxValidity", "99999999999h"), duration},
	}
	check(t, smallInstance, table)
}

// check sends each row's object as a dry run. A refusal must be the API's own sentence, not a failure to evaluate a rule.
func check(t *testing.T, base string, table map[string]struct {
	set  set
	want string
},
) {
	t.Helper()
	c := newClient(t)
	for sentence, tc := range table {
		t.Run(sentence, func(t *testing.T) {
			err := c.Create(t.Context(), object(t, base, tc.set), client.DryRunAll)
			switch {
			case tc.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case tc.want != "" && err == nil:
				t.Error("accepted")
			case tc.want != "" && (!strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "evaluating rule")):
				t.Errorf("refused with\n  %v\nwant a sentence with\n  %s", err, tc.want)
			}
		})
	}
}

func TestImmutableFields(t *testing.T) {
	c := newClient(t)
	for sentence, tc := range map[string]struct {
		base        string
		first, then set
		want        string
	}{
		"an instance id stays":           {smallInstance, nil, set{"spec.instanceID": "other"}, "is immutable: tokens are bound to it"},
		"a region stays":                 {smallInstance, nil, set{"spec.regionID": "cn-beijing"}, "is immutable: an instance does not move"},
		"an endpoint may change":         {smallInstance, nil, set{"spec.endpoint": "a"}, ""},
		"a Secret name stays":            {smallGrant, set{"spec.secret.name": "a"}, set{"spec.secret.name": "b"}, "name is immutable"},
		"a Secret name cannot come":      {smallGrant, nil, set{"spec.secret.name": "b"}, "name is immutable"},
		"a Secret name cannot go":        {smallGrant, set{"spec.secret.name": "a"}, nil, "name is immutable"},
		"a Secret name cannot go whole":  {smallGrant, set{"spec.secret.name": "a"}, set{"spec.secret": ""}, "name is immutable"},
		"a Secret's format may change":   {smallGrant, nil, set{"spec.secret.format": "Env"}, ""},
		"topics and client may change":   {smallGrant, nil, set{"spec.topics": topics("b"), "spec.client.groupID": "GID_other"}, ""},
		"a Secret name stays the same":   {smallGrant, set{"spec.secret.name": "a"}, set{"spec.secret.name": "a", "spec.suspend": "true"}, ""},
		"a validity may become shorter":  {smallGrant, nil, set{"spec.validity": "1h"}, ""},
		"an access rule may be added":    {smallInstance, nil, set{"spec.accessRules": "[" + smallRule + "]"}, ""},
		"a client's key id may be added": {smallInstance, nil, set{"spec.clientAccessKeyID": "LTAIx"}, ""},
	} {
		t.Run(sentence, func(t *testing.T) {
			created := object(t, tc.base, tc.first)
			if err := c.Create(t.Context(), created); err != nil {
				t.Fatal(err)
			}
			defer func() { _ = c.Delete(t.Context(), created) }()
			updated := object(t, tc.base, tc.then)
			updated.SetResourceVersion(created.GetResourceVersion())
			err := c.Update(t.Context(), updated)
			if (tc.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want a sentence with %q", err, tc.want)
			}
		})
	}
}

func TestDefaults(t *testing.T) {
	c := newClient(t)
	for kind, tc := range map[string]struct{ base, spec, status string }{
		"MqttTokenGrant": {
			smallGrant,
			`{instanceRef: {name: factory}, client: {groupID: GID_line_a}, topics: [{filter: a, actions: [Publish]}],
			validity: 24h, overlap: 5m, secret: {format: Files}, deletionPolicy: Revoke}`,
			`{observedGeneration: -1}`,
		},
		"MqttInstance": {
			smallInstance,
			`{instanceID: post-cn-0pp12gl0001, regionID: cn-hangzhou, network: Public,
			credentials: {type: AccessKey, accessKey: {secretRef: {name: ak}}},
			broker: {ports: {tls: 8883, wss: 443, tcp: 1883}}, quota: {applyPerSecond: 50, queryPerSecond: 20, revokePerSecond: 4}}`,
			`{observedGeneration: -1}`,
		},
	} {
		t.Run(kind, func(t *testing.T) {
			created := object(t, tc.base, nil)
			if err := c.Create(t.Context(), created); err != nil {
				t.Fatal(err)
			}
			defer func() { _ = c.Delete(t.Context(), created) }()
			want := map[string]any{"spec": parse(t, tc.spec), "status": parse(t, tc.status)}
			got := map[string]any{"spec": plain(t, created.Object["spec"]), "status": plain(t, created.Object["status"])}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func newClient(t *testing.T) client.Client {
	t.Helper()
	c, err := client.New(server, client.Options{FieldValidation: metav1.FieldValidationStrict})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// object is the base with fields set; those that begin with "rule." are set in the first access rule.
func object(t *testing.T, base string, fields set) *unstructured.Unstructured {
	t.Helper()
	content, ok := parse(t, base).(map[string]any)
	if !ok {
		t.Fatal("the base is no object")
	}
	for _, inRule := range []bool{false, true} { // the rules themselves first
		for path, text := range fields {
			target, name := content, path
			if rest, found := strings.CutPrefix(path, "rule."); found {
				target, name = firstRule(t, content), rest
			}
			if found := name != path; found != inRule {
				continue
			}
			put(t, target, strings.Split(name, "."), text)
		}
	}
	return &unstructured.Unstructured{Object: content}
}

func firstRule(t *testing.T, content map[string]any) map[string]any {
	t.Helper()
	list, _, err := unstructured.NestedFieldNoCopy(content, "spec", "accessRules")
	if err != nil || list == nil {
		return content
	}
	rule, ok := list.([]any)[0].(map[string]any)
	if !ok {
		return content
	}
	return rule
}

func put(t *testing.T, content map[string]any, path []string, text string) {
	t.Helper()
	if text == "" {
		unstructured.RemoveNestedField(content, path...)
		return
	}
	if err := unstructured.SetNestedField(content, parse(t, text), path...); err != nil {
		t.Fatal(err)
	}
}

// parse reads YAML into what a JSON decoder of the API machinery makes of it: whole numbers are int64.
func parse(t *testing.T, text string) any {
	t.Helper()
	var value any
	if err := yaml.Unmarshal([]byte(strings.ReplaceAll(text, "\t", " ")), &value); err != nil {
		t.Fatal(err)
	}
	return whole(value)
}

func whole(value any) any {
	switch v := value.(type) {
	case float64:
		return int64(v)
	case []any:
		for i := range v {
			v[i] = whole(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = whole(v[k])
		}
	}
	return value
}

func plain(t *testing.T, value any) any {
	t.Helper()
	text, err := yaml.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return parse(t, string(text))
}

func long(character string, n int) string { return strings.Repeat(character, n) }

// topics lists permissions to publish; the filters are in YAML's double quotes, so that escapes work.
func topics(filters ...string) string {
	items := make([]string, 0, len(filters))
	for _, f := range filters {
		items = append(items, fmt.Sprintf(`{filter: %s, actions: [Publish]}`, `"`+f+`"`))
	}
	return "[" + strings.Join(items, ", ") + "]"
}

// many lists permissions for as many distinct topics of each kind.
func many(publish, subscribe, both int) string {
	var items []string
	for i := range publish {
		items = append(items, fmt.Sprintf("{filter: w/%d, actions: [Publish]}", i))
	}
	for i := range subscribe {
		items = append(items, fmt.Sprintf("{filter: r/%d, actions: [Subscribe]}", i))
	}
	for i := range both {
		items = append(items, fmt.Sprintf("{filter: rw/%d, actions: [Publish, Subscribe]}", i))
	}
	return "[" + strings.Join(items, ", ") + "]"
}

func keys(n int) string {
	items := make([]string, 0, n)
	for i := range n {
		items = append(items, fmt.Sprintf("k%d: v", i))
	}
	return "{" + strings.Join(items, ", ") + "}"
}
