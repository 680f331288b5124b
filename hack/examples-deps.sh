#!/usr/bin/env bash
# Installs what the examples run with, as far as it can be had: Debian's packages, and what npm brings. A test of an example
# that lacks something says so and is skipped.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { echo "examples: $*"; }

if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
  export DEBIAN_FRONTEND=noninteractive
  packages=(mosquitto mosquitto-clients python3-paho-mqtt libmqtt-client-java)
  if ! { timeout 60 apt-get -qq update && timeout 300 apt-get -qq install -y --no-install-recommends "${packages[@]}"; } >/dev/null 2>&1; then
    say "not all of ${packages[*]} could be installed; going on without"
  fi
else
  say "no way to install Debian packages here; going on without"
fi

if command -v npm >/dev/null; then
  timeout 300 npm --prefix examples/node ci --no-audit --no-fund --silent || say "mqtt.js could not be installed; going on without"
else
  say "no npm here; going on without mqtt.js"
fi
