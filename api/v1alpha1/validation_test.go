package v1alpha1_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/mqtt-token-operator/mqtt-token-operator/test/apiserver"
)

var server *rest.Config

func TestMain(m *testing.M) {
	os.Exit(apiserver.Main(m, func(config *rest.Config) { server = config }))
}

// TestExamples sends each file under testdata to a real API server. Files in valid/ must be taken; files in invalid/
// must be refused with the text of their first line, "# want: ...".
func TestExamples(t *testing.T) {
	c, err := client.New(server, client.Options{FieldValidation: metav1.FieldValidationStrict})
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("testdata/*/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(file, ".yaml"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			err = send(t.Context(), c, text)
			want, invalid := strings.CutPrefix(strings.SplitN(string(text), "\n", 2)[0], "# want: ")
			switch {
			case !invalid && err != nil:
				t.Errorf("refused: %v", err)
			case invalid && err == nil:
				t.Error("accepted")
			case invalid && !strings.Contains(err.Error(), want):
				t.Errorf("refused with\n  %v\nwant a sentence with\n  %s", err, want)
			}
		})
	}
}

// send creates the first document as a dry run; with a second one, it creates the first and updates it to the second.
func send(ctx context.Context, c client.Client, text []byte) error {
	documents := strings.Split(string(text), "\n---\n")
	first := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(documents[0]), &first.Object); err != nil {
		return err
	}
	first.SetNamespace("default")
	if len(documents) == 1 {
		return c.Create(ctx, first, client.DryRunAll)
	}
	if err := c.Create(ctx, first); err != nil {
		return err
	}
	defer func() { _ = c.Delete(ctx, first) }()
	second := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(documents[1]), &second.Object); err != nil {
		return err
	}
	second.SetNamespace("default")
	second.SetResourceVersion(first.GetResourceVersion())
	return c.Update(ctx, second)
}
