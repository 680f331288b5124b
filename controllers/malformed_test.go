package controllers_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/yaml"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token/tokenfake"
	"github.com/mqtt-token-operator/mqtt-token-operator/test/apiserver"
)

// TestMalformedGrantsDoNotStopTheOthers uses an API server whose CRDs have no rules, as an older version of them, or
// somebody with a free hand, would leave it. The first attack of all is among them: a comma must not buy a topic.
func TestMalformedGrantsDoNotStopTheOthers(t *testing.T) {
	t.Parallel()
	environment := &envtest.Environment{CRDs: lawless(t)}
	settings, err := environment.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := environment.Stop(); err != nil {
			t.Error(err)
		}
	})
	settings.QPS = -1
	w := newWorldAt(t, settings)
	w.becomeReady()
	malformed := map[string]struct {
		change func(*v1alpha1.MqttTokenGrantSpec)
		want   string
	}{
		"comma":    {func(s *v1alpha1.MqttTokenGrantSpec) { s.Topics[0].Filter = "factory/a,factory/b" }, "','"},
		"dollar":   {func(s *v1alpha1.MqttTokenGrantSpec) { s.Topics[0].Filter = "$SYS/#" }, "$"},
		"validity": {func(s *v1alpha1.MqttTokenGrantSpec) { s.Validity = "banana" }, "spec.validity"},
		"no-topic": {func(s *v1alpha1.MqttTokenGrantSpec) { s.Topics = nil }, "spec.topics"},
		"renewal":  {func(s *v1alpha1.MqttTokenGrantSpec) { s.Validity, s.RenewBefore = "1h", "59m" }, "spec.renewBefore"},
	}
	for name, tc := range malformed {
		w.press(name, tc.change)
	}
	w.press("good")
	w.eventuallyCondition("good", v1alpha1.ReadyCondition, metav1.ConditionTrue, v1alpha1.ReasonIssued)
	for name, tc := range malformed {
		w.eventuallyCondition(name, v1alpha1.StalledCondition, metav1.ConditionTrue, v1alpha1.ReasonInvalidSpec)
		if got := w.condition(name, v1alpha1.StalledCondition).Message; !strings.Contains(got, tc.want) {
			t.Errorf("%s: %q does not mention %q", name, got, tc.want)
		}
	}
	if n := len(w.service.Calls(tokenfake.Apply)); n != 1 {
		t.Errorf("%d applies, want the good grant's", n)
	}
	g := w.grant("comma")
	w.must(w.Delete(t.Context(), g))
	w.eventually("a malformed grant can be deleted", func() bool { return w.Get(t.Context(), keyOf(g), g) != nil })
}

// lawless returns the CRDs without their rules and patterns.
func lawless(t *testing.T) []*apiextensionsv1.CustomResourceDefinition {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(apiserver.Root(), "config", "crd", "bases", "*.yaml"))
	if err != nil || len(files) != 2 {
		t.Fatalf("found %v, %v", files, err)
	}
	var list []*apiextensionsv1.CustomResourceDefinition
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		crd := &apiextensionsv1.CustomResourceDefinition{}
		if err := yaml.Unmarshal(text, crd); err != nil {
			t.Fatal(err)
		}
		for i := range crd.Spec.Versions {
			disarm(crd.Spec.Versions[i].Schema.OpenAPIV3Schema)
		}
		list = append(list, crd)
	}
	return list
}

func disarm(schema *apiextensionsv1.JSONSchemaProps) {
	schema.XValidations, schema.Pattern, schema.MinItems, schema.MinProperties, schema.MinLength = nil, "", nil, nil, nil
	schema.Required = nil
	for name, property := range schema.Properties {
		disarm(&property)
		schema.Properties[name] = property
	}
	if schema.Items != nil && schema.Items.Schema != nil {
		disarm(schema.Items.Schema)
	}
	// A list map needs its key.
	if len(schema.XListMapKeys) > 0 {
		schema.Items.Schema.Required = schema.XListMapKeys
	}
}
