#!/usr/bin/env python3
"""Publishes a number every second, with the tokens of a mounted Secret (paho-mqtt 1.6).

It reads the files before each CONNECT, uploads new tokens over the open connection, and stays away with dead ones.

  MQTT_CREDENTIALS_DIR  where the token Secret is mounted (default /etc/mqtt)
  MQTT_TOPIC            where to publish
  POD_NAME              tells the clients of a group apart
"""

import hashlib
import json
import os
import random
import re
import signal
import ssl
import sys
import time

import paho.mqtt.client as mqtt

FOLDER = os.environ.get("MQTT_CREDENTIALS_DIR", "/etc/mqtt")
TOPIC = os.environ["MQTT_TOPIC"]
UPLOAD = "$SYS/uploadToken"
INVALID = "$SYS/tokenInvalidNotice"
OVER = (2, 3)  # expired, revoked
REFUSED = (4, 5)  # bad user name or password, not authorized
PATIENCE = 10  # seconds, for an acknowledgement
LONGEST, LONGEST_DEAD = 60, 600  # seconds between two attempts


def log(text):
    print(text, flush=True)


def current():
    """Where the files really are: the kubelet writes a new folder for each version, and moves a link to it."""
    return os.path.dirname(os.path.realpath(os.path.join(FOLDER, "tokens.json")))


def load():
    """Returns a version of the Secret and its files, all of that version. It waits until there is one."""
    told = False
    while True:
        version = current()
        if not os.path.exists(os.path.join(version, "tokens.json")):
            if not told:
                log("waiting: the folder holds no tokens")
            told = True
            time.sleep(0.2)
            continue
        try:
            files = {}
            for name in os.listdir(version):
                with open(os.path.join(version, name), encoding="utf-8") as file:
                    files[name] = file.read()
        except FileNotFoundError:
            continue  # it was replaced meanwhile
        if not changed(version):
            return version, files


def changed(version):
    return current() != version


def wait_for_change(version, at_most):
    """Waits for that long, and by chance half as long again: clients that were cut off together must not come back together."""
    until = time.monotonic() + at_most * random.uniform(1, 1.5)
    while not changed(version) and time.monotonic() < until:
        time.sleep(0.2)


def client_id(files):
    """The grant's own or, for a grant of a group, one made of the pod's name."""
    if "client-id" in files:
        return files["client-id"]
    name, group = os.environ["POD_NAME"], files["group-id"]
    device, room = re.sub("[^A-Za-z0-9_-]", "-", name), 64 - len(group) - len("@@@")
    if len(device) > room:
        tail = ("-" + hashlib.sha256(name.encode()).hexdigest()[:8])[-room:]
        device = device[: room - len(tail)] + tail
    return f"{group}@@@{device}"


class Session:
    """One connection, from CONNECT to its end."""

    def __init__(self, version, files):
        self.version, self.files = version, files
        self.ended = None  # why
        self.dead = False  # the broker does not take the tokens, or not any more
        self.client = mqtt.Client(client_id(files), protocol=mqtt.MQTTv311)
        self.client.username_pw_set(files["username"], files["password"])
        trust = ssl.create_default_context(cadata=files.get("ca.crt"))
        self.client.tls_set_context(trust)
        self.client.on_connect = self.on_connect
        self.client.on_disconnect = self.on_disconnect
        self.client.on_message = self.on_message

    def on_connect(self, _client, _data, _flags, code):
        if code == 0:
            log("connected")
            return
        self.dead = code in REFUSED
        self.ended = mqtt.connack_string(code)

    def on_disconnect(self, _client, _data, code):
        self.ended = self.ended or mqtt.error_string(code)

    def on_message(self, _client, _data, message):
        if message.topic == INVALID:
            found = re.search(rb'"code"\s*:\s*(\d+)', message.payload)
            code = int(found[1]) if found else None
            log(f"the broker says: code {code}")
            self.dead = self.dead or code in OVER

    def run(self):
        self.client.connect(self.files["host"], int(self.files["port"]))
        number, at = 0, 0
        while self.ended is None:
            self.client.loop(0.1)
            if not self.client.is_connected():
                continue
            if changed(self.version):
                self.refresh()
            elif time.monotonic() >= at:
                self.publish(TOPIC, str(number))
                log(f"published {number}")
                number, at = number + 1, time.monotonic() + 1
        self.client.disconnect()

    def publish(self, topic, payload):
        """Publishes and waits for the acknowledgement."""
        sent, until = self.client.publish(topic, payload, qos=1), time.monotonic() + PATIENCE
        if sent.rc != mqtt.MQTT_ERR_SUCCESS:
            self.ended = self.ended or mqtt.error_string(sent.rc)
            return
        while not sent.is_published() and self.ended is None:
            self.client.loop(0.1)
            if time.monotonic() > until:
                self.ended = f"no acknowledgement from {topic}"

    def refresh(self):
        """Uploads new tokens, while nothing else is published; ends the connection where that does not do."""
        version, files = load()
        tokens, before = json.loads(files["tokens.json"]), json.loads(self.files["tokens.json"])
        same = all(files.get(name) == self.files.get(name) for name in ("username", "client-id", "url"))
        if not tokens or not same or sorted(t["type"] for t in tokens) != sorted(t["type"] for t in before):
            self.ended = "other credentials need another connection"
            return
        for token in tokens:
            if self.ended is not None:
                return
            self.publish(UPLOAD, json.dumps({"token": token["token"], "type": token["type"]}))
        if self.ended is None:
            self.version, self.files = version, files
            log("uploaded new tokens")


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # the first process of a container ends on nothing else
    wait, wait_dead = 1, 30
    while True:
        version, files = load()
        if json.loads(files["tokens.json"]) == []:
            log("waiting: the tokens were taken back")
            wait_for_change(version, float("inf"))
            continue
        session, began = Session(version, files), time.monotonic()
        try:
            session.run()
        except OSError as error:
            session.ended = str(error)
        log(f"not connected: {session.ended}")
        if time.monotonic() - began > 30:
            wait, wait_dead = 1, 30
        if session.dead:
            log("waiting: the broker does not take these tokens; others will come")
            wait_for_change(session.version, wait_dead)
            wait_dead = min(2 * wait_dead, LONGEST_DEAD)
        elif not changed(session.version):
            wait_for_change(session.version, wait)
            wait = min(2 * wait, LONGEST)


if __name__ == "__main__":
    main()
