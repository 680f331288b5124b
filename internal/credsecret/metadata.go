package credsecret

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/validation"
)

// maxAnnotations is what the API server lets all annotations of an object take together, in bytes.
const maxAnnotations = 256 << 10

// checkMetadata refuses what the API server would: better before a token is applied for than after.
func checkMetadata(labels, annotations map[string]string) error {
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		if problems := validation.ValidateLabels(map[string]string{key: labels[key]}, nil); len(problems) > 0 {
			return fmt.Errorf("label %q: %s", key, problems[0].Detail)
		}
	}
	size := 0
	for _, key := range slices.Sorted(maps.Keys(annotations)) {
		if problems := validation.ValidateLabelName(strings.ToLower(key), nil); len(problems) > 0 {
			return fmt.Errorf("annotation %q: %s", key, problems[0].Detail)
		}
		size += len(key) + len(annotations[key])
	}
	if size > maxAnnotations {
		return fmt.Errorf("the annotations would take %d bytes, more than %d", size, maxAnnotations)
	}
	return nil
}
