#!/bin/sh
# Runs mosquitto as a bridge to the broker, and has it use new tokens when the Secret changes. Programs beside it publish to
# localhost, know nothing of tokens, and notice no renewal.
#
#   MQTT_CREDENTIALS_DIR  where the token Secret is mounted (default /etc/mqtt); bridge.conf in it is made by the operator
#   LOCAL_PORT            where mosquitto listens on loopback (default 1883)
#   SCRATCH               a folder in memory, for the configuration (default /tmp)
set -eu

folder=${MQTT_CREDENTIALS_DIR:-/etc/mqtt}
umask 077
scratch=$(mktemp -d "${SCRATCH:-/tmp}/bridge.XXXXXX")
bridge=
trap '[ -z "$bridge" ] || kill "$bridge" 2>/dev/null; rm -rf "$scratch"' EXIT
trap 'exit 0' INT TERM

# Whoever runs as root could not read the files otherwise: mosquitto would become another user.
cat >"$scratch/mosquitto.conf" <<EOF
user root
listener ${LOCAL_PORT:-1883} 127.0.0.1
allow_anonymous true
log_dest stdout
log_type error
log_type warning
log_type notice
include_dir $scratch/bridge
EOF
mkdir "$scratch/bridge"

# Before 2.1 mosquitto cannot reload a bridge. It is started anew instead, which cuts local clients off for a moment.
printf 'connection x\naddress 127.0.0.1:1\nbridge_reload_type immediate\nnonsense\n' >"$scratch/probe.conf"
if mosquitto -c "$scratch/probe.conf" 2>&1 | grep -q 'variable "bridge_reload_type"'; then reloads=; else reloads=1; fi

# current is where the files really are: the kubelet writes a new folder for each version, and moves a link to it.
current() { dirname "$(readlink -f "$folder/tokens.json")"; }

# copy takes over bridge.conf as the operator made it; it fails while there are no tokens.
copy() {
  version=$(current)
  grep -q '^remote_password .' "$version/bridge.conf" || return 1
  cp "$version/bridge.conf" "$scratch/new"
  if [ -z "$reloads" ]; then sed -i '/^bridge_reload_type/d' "$scratch/new"; fi
  mv "$scratch/new" "$scratch/bridge/bridge.conf"
}

start() {
  mosquitto -c "$scratch/mosquitto.conf" &
  bridge=$!
}

known='' bridged=''
while :; do
  if [ "$(current)" != "$known" ]; then
    if ! copy; then
      # Without a bridge it serves local clients on, and does not try dead tokens again and again.
      rm -f "$scratch/bridge/bridge.conf"
      if [ -n "$bridge" ]; then
        kill "$bridge"
        wait "$bridge" || true
      fi
      start
      echo "waiting: the tokens were taken back"
    elif [ -z "$bridge" ]; then
      start
    elif [ -n "$reloads" ] && [ -n "$bridged" ]; then
      kill -HUP "$bridge"
      echo "reloaded"
    else
      kill "$bridge"
      wait "$bridge" || true
      start
      echo "started anew"
    fi
    if [ -e "$scratch/bridge/bridge.conf" ]; then bridged=1; else bridged=; fi
    known=$version
  fi
  if [ -n "$bridge" ] && ! kill -0 "$bridge" 2>/dev/null; then wait "$bridge"; fi
  sleep 1 &
  wait $! || true # a signal ends this, and not the sleep alone
done
