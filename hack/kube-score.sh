#!/usr/bin/env bash
# Scores every manifest that is shipped by kube-score; fails on a finding. What is ignored, and why, is in docs/install.md.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

kustomize=$(hack/tools/tool.sh kustomize)
score=$(hack/tools/tool.sh kube-score)

# Kustomize takes relative paths only, so that what it builds from must be in here.
mkdir -p dist
folder=$(mktemp -d dist/.kube-score.XXXXXX)
trap 'rm -rf "$folder"' EXIT

# Each installation by itself, and with each component, which changes what it is added to.
for installation in config/default config/namespaced config/samples; do
  "$kustomize" build "$installation" > "$folder/$(basename "$installation").yaml"
done
for component in config/components/*; do
  name=$(basename "$component")
  mkdir "$folder/$name"
  printf '{"resources": ["../../../config/default"], "components": ["../../../%s"]}\n' "$component" > "$folder/$name/kustomization.yaml"
  "$kustomize" build "$folder/$name" > "$folder/default-with-$name.yaml"
done
if [ -d examples ]; then
  while IFS= read -r file; do
    cp "$file" "$folder/$(tr / - <<< "$file")"
  done < <(find examples -name '*.yaml' ! -name kustomization.yaml ! -path '*/node_modules/*')
fi

faults=0
for manifests in "$folder"/*.yaml; do
  # No CPU limit: it would delay renewals just when they come all at once.
  if said=$("$score" score --color never --kubernetes-version v1.37 --ignore-container-cpu-limit --exit-one-on-warning "$manifests"); then
    echo "kube-score: $(basename "$manifests" .yaml): passed"
  else
    echo "kube-score: $(basename "$manifests" .yaml):"
    echo "$said"
    faults=$((faults + 1))
  fi
done
exit "$((faults > 0))"
