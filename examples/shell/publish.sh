#!/bin/sh
# Publishes a number every few seconds with mosquitto_pub. Each message is a connection of its own, so reading the files
# before each is all that a renewal takes.
#
#   MQTT_CREDENTIALS_DIR  where the token Secret is mounted (default /etc/mqtt)
#   MQTT_TOPIC            where to publish
#   EVERY                 seconds between two messages (default 5)
#   SCRATCH               a folder in memory, for the password (default /tmp)
set -eu

folder=${MQTT_CREDENTIALS_DIR:-/etc/mqtt}
every=${EVERY:-5}
# mosquitto_pub reads options from a file of this folder: on the command line everybody on the machine could see them.
XDG_CONFIG_HOME=$(mktemp -d "${SCRATCH:-/tmp}/mqtt.XXXXXX")
export XDG_CONFIG_HOME
trap 'rm -rf "$XDG_CONFIG_HOME"' EXIT
trap 'exit 0' INT TERM
umask 077

# current is where the files really are: the kubelet writes a new folder for each version, and moves a link to it.
current() { dirname "$(readlink -f "$folder/tokens.json")"; }

# credentials writes what to connect with, all from one version of the Secret; it fails while there is nothing.
credentials() {
  version=$(current)
  [ -s "$version/password" ] || return 1
  {
    echo "-h $(cat "$version/host")"
    echo "-p $(cat "$version/port")"
    echo "-i $(cat "$version/client-id")"
    echo "-u $(cat "$version/username")"
    echo "-P $(cat "$version/password")"
    if [ -e "$version/ca.crt" ]; then echo "--cafile $version/ca.crt"; else echo "--capath /etc/ssl/certs"; fi
  } 2>/dev/null >"$XDG_CONFIG_HOME/mosquitto_pub" || return 1
  [ "$(current)" = "$version" ]
}

# longer doubles a wait, up to a bound.
longer() { if [ $((2 * $1)) -lt "$2" ]; then echo $((2 * $1)); else echo "$2"; fi; }

number=0 refused='' again=0 wait=1 wait_dead=30
while :; do
  pause=$every
  if ! credentials; then
    echo "waiting: the folder holds no tokens"
  elif [ "$refused" = "$version" ] && [ "$(date +%s)" -lt "$again" ]; then
    echo "waiting: the broker does not take these tokens; others will come"
  elif mosquitto_pub -q 1 -t "$MQTT_TOPIC" -m "$number" 2>"$XDG_CONFIG_HOME/error"; then
    echo "published $number"
    number=$((number + 1)) wait=1 wait_dead=30
  elif grep -qi "not authorised\|bad user name" "$XDG_CONFIG_HOME/error"; then
    echo "refused"
    refused=$version again=$(($(date +%s) + wait_dead)) # the broker may be wrong
    wait_dead=$(longer "$wait_dead" 600)
  else
    echo "not published: $(cat "$XDG_CONFIG_HOME/error")"
    pause=$wait
    wait=$(longer "$wait" 60)
  fi
  sleep "$pause" &
  wait $! # a signal ends this, and not the sleep alone
done
