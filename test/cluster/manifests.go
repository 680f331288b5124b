package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	sigsyaml "sigs.k8s.io/yaml"
)

// Kustomization is the file that names a folder's manifests.
const Kustomization = "kustomization.yaml"

// LoadManifests reads what `kubectl apply -k` would apply from a folder, in the same order. It knows kustomizations that
// only list resources, and fails on others rather than show something else than what is shipped.
func LoadManifests(folder string) ([]*unstructured.Unstructured, error) {
	text, err := os.ReadFile(filepath.Join(folder, Kustomization))
	if err != nil {
		return nil, fmt.Errorf("reading manifests: %w", err)
	}
	var list struct {
		APIVersion string   `json:"apiVersion"`
		Kind       string   `json:"kind"`
		Resources  []string `json:"resources"`
		Images     []any    `json:"images"` // no image is run here
	}
	if err := sigsyaml.UnmarshalStrict(text, &list); err != nil {
		return nil, fmt.Errorf("reading %s: %w", filepath.Join(folder, Kustomization), err)
	}
	var all []*unstructured.Unstructured
	for _, resource := range list.Resources {
		name := filepath.Join(folder, resource)
		load := LoadFile
		if info, err := os.Stat(name); err == nil && info.IsDir() {
			load = LoadManifests
		}
		objects, err := load(name)
		if err != nil {
			return nil, err
		}
		all = append(all, objects...)
	}
	return all, nil
}

// Kustomize is LoadManifests for any kustomization, as kubectl builds it.
func (c *Cluster) Kustomize(ctx context.Context, folder string) ([]*unstructured.Unstructured, error) {
	text, err := Run(ctx, c.Kubectl, "kustomize", folder)
	if err != nil {
		return nil, err
	}
	return decode(folder, []byte(text))
}

// LoadFile reads the manifests in a file.
func LoadFile(name string) ([]*unstructured.Unstructured, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("reading manifests: %w", err)
	}
	return decode(name, text)
}

func decode(name string, text []byte) ([]*unstructured.Unstructured, error) {
	var objects []*unstructured.Unstructured
	for decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), len(text)); ; {
		var content map[string]any
		switch err := decoder.Decode(&content); {
		case errors.Is(err, io.EOF):
			return objects, nil
		case err != nil:
			return nil, fmt.Errorf("reading %s: %w", name, err)
		case len(content) > 0:
			objects = append(objects, &unstructured.Unstructured{Object: content})
		}
	}
}

// OfKind returns the objects of some kinds.
func OfKind(objects []*unstructured.Unstructured, kinds ...string) []*unstructured.Unstructured {
	return pick(objects, kinds, true)
}

// Except returns the objects of all other kinds.
func Except(objects []*unstructured.Unstructured, kinds ...string) []*unstructured.Unstructured {
	return pick(objects, kinds, false)
}

func pick(objects []*unstructured.Unstructured, kinds []string, wanted bool) []*unstructured.Unstructured {
	var picked []*unstructured.Unstructured
	for _, object := range objects {
		if slices.Contains(kinds, object.GetKind()) == wanted {
			picked = append(picked, object)
		}
	}
	return picked
}
