#!/usr/bin/env bash
# Builds the manager twice, here and elsewhere from a copy of what the Dockerfile builds from; fails unless both are equal,
# byte for byte.
#
# Seconds, because what is compiled comes from the build cache both times. COLD=1 gives the second build an empty cache,
# so that the compiler is put to the test as well; that takes minutes.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
elsewhere=$(mktemp -d)
trap 'rm -rf "$elsewhere"' EXIT

sha256() { if command -v sha256sum >/dev/null; then sha256sum "$1"; else shasum -a 256 "$1"; fi | cut -d ' ' -f 1; }

# The copy holds what the Dockerfile takes for its build, and nothing else: so that is seen to be enough.
while read -ra words; do
  last=$((${#words[@]} - 1))
  target=$elsewhere/sources/${words[last]}
  mkdir -p "${target%/*}"
  cp -R "${words[@]:1:last-1}" "$target"
done < <(awk '$1 == "FROM" {stage = $NF} $1 == "COPY" && stage == "build"' Dockerfile)

hack/release-build.sh "$elsewhere/first" ./cmd/manager
(
  cd "$elsewhere/sources"
  if [ "${COLD:-}" = 1 ]; then export GOCACHE=$elsewhere/cache; fi
  hack/release-build.sh "$elsewhere/" ./cmd/manager ./cmd/simulator
  mv "$elsewhere/manager" "$elsewhere/second"
)

first=$(sha256 "$elsewhere/first")
second=$(sha256 "$elsewhere/second")
if ! cmp "$elsewhere/first" "$elsewhere/second"; then
  echo "reproducible: two builds of cmd/manager differ: $first here, $second from a copy" >&2
  exit 1
fi
echo "reproducible: sha256 $first: cmd/manager, twice, for ${GOOS:-linux}/$(go env GOARCH) by $(go env GOVERSION)"
