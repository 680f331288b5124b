#!/usr/bin/env bash
# Runs every fuzz target of the module for a while, one after the other (go test fuzzes one target at a time).
set -euo pipefail

fuzztime=${1:-30s}
cd "$(dirname "${BASH_SOURCE[0]}")/.."

found=0
while IFS=: read -r file func; do
  found=$((found + 1))
  echo "fuzz: $func in ${file%/*} for $fuzztime"
  go test -run '^$' -fuzz "^$func\$" -fuzztime "$fuzztime" "./${file%/*}"
done < <(grep -rEo --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*' api cmd controllers internal pkg test 2>/dev/null | sed 's/:func /:/' | sort)
echo "fuzz: $found targets ran"
