// Publishes a number every second, with the tokens of a mounted Secret (mqtt.js 5, MQTT 3.1.1).
//
// It reads the files before each CONNECT, uploads new tokens over the open connection, and stays away with dead ones.
//
//   MQTT_CREDENTIALS_DIR  where the token Secret is mounted (default /etc/mqtt)
//   MQTT_TOPIC            where to publish
//   POD_NAME              tells the clients of a group apart

import { createHash } from "node:crypto";
import { readFileSync, readdirSync, realpathSync } from "node:fs";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import mqtt from "mqtt";

const folder = process.env.MQTT_CREDENTIALS_DIR ?? "/etc/mqtt";
const topic = process.env.MQTT_TOPIC;
const over = [2, 3]; // expired, revoked
const refused = [4, 5]; // bad user name or password, not authorized
const patience = 10_000; // milliseconds, for an acknowledgement
const longest = 60_000, longestDead = 600_000; // milliseconds between two attempts

/** Where the files really are: the kubelet writes a new folder for each version, and moves a link to it. */
const current = () => dirname(realpathSync(join(folder, "tokens.json")));

function changed(version) {
  try {
    return current() !== version;
  } catch (error) {
    if (error.code !== "ENOENT") throw error;
    return true; // it is being replaced
  }
}

/** Returns a version of the Secret and its files, all of that version. It waits until there is one. */
async function load() {
  for (let told = false; ; ) {
    try {
      const version = current();
      const files = Object.fromEntries(readdirSync(version).map((name) => [name, readFileSync(join(version, name), "utf8")]));
      if (!changed(version)) return { version, files };
    } catch (error) {
      if (error.code !== "ENOENT") throw error; // it is being replaced, or not there yet
      if (!told) console.log("waiting: the folder holds no tokens");
      told = true;
      await sleep(200);
    }
  }
}

/** Waits for that long, and by chance half as long again: clients that were cut off together must not come back together. */
async function waitForChange(version, atMost) {
  for (const until = Date.now() + atMost * (1 + Math.random() / 2); !changed(version) && Date.now() < until; ) await sleep(200);
}

/** The grant's own or, for a grant of a group, one made of the pod's name. */
function clientId(files) {
  if (files["client-id"]) return files["client-id"];
  const name = process.env.POD_NAME, group = files["group-id"], room = 64 - group.length - "@@@".length;
  let device = name.replace(/[^A-Za-z0-9_-]/gu, "-");
  if (device.length > room) {
    const tail = ("-" + createHash("sha256").update(name).digest("hex").slice(0, 8)).slice(-room);
    device = device.slice(0, room - tail.length) + tail;
  }
  return `${group}@@@${device}`;
}

const types = (files) => JSON.parse(files["tokens.json"]).map((token) => token.type).sort().join();

/** One connection, from CONNECT to its end. Returns why it ended, and whether the broker does not take the tokens. */
async function session(version, files) {
  let dead = false, ended;
  const client = mqtt.connect(files.url, {
    clientId: clientId(files), username: files.username, password: files.password, ca: files["ca.crt"],
    protocolVersion: 4, reconnectPeriod: 0, // only main knows when to connect, and with what
  });
  const end = (why) => { ended ??= why; };
  client.on("connect", () => console.log("connected"));
  client.on("error", (error) => { dead ||= refused.includes(error.code); end(error.message); });
  client.on("close", () => end("the connection is lost"));
  client.on("message", (from, payload) => {
    if (from !== "$SYS/tokenInvalidNotice") return;
    const code = Number(/"code"\s*:\s*(\d+)/.exec(payload)?.[1]);
    console.log(`the broker says: code ${code}`);
    dead ||= over.includes(code);
  });

  const publish = async (to, payload) => {
    const late = sleep(patience, "late", { ref: false });
    if (await Promise.race([client.publishAsync(to, payload, { qos: 1 }), late]) === "late") end(`no acknowledgement from ${to}`);
  };
  /** Uploads new tokens, while nothing else is published; ends the connection where that does not do. */
  const refresh = async () => {
    const newer = await load(), tokens = JSON.parse(newer.files["tokens.json"]);
    const same = ["username", "client-id", "url"].every((name) => newer.files[name] === files[name]);
    if (tokens.length === 0 || !same || types(newer.files) !== types(files)) return end("other credentials need another connection");
    for (const { token, type } of tokens) {
      await publish("$SYS/uploadToken", JSON.stringify({ token, type }));
      if (ended) return;
    }
    ({ version, files } = newer);
    console.log("uploaded new tokens");
  };

  for (let number = 0, at = 0; !ended; await sleep(50)) {
    if (!client.connected) continue;
    try {
      if (changed(version)) await refresh();
      else if (Date.now() >= at) {
        await publish(topic, String(number));
        if (!ended) console.log(`published ${number++}`);
        at = Date.now() + 1000;
      }
    } catch (error) {
      end(error.message);
    }
  }
  await client.endAsync(true);
  return { version, ended, dead };
}

process.once("SIGTERM", () => process.exit(0)); // the first process of a container ends on nothing else

let wait = 1000, waitDead = 30_000;
for (;;) {
  const { version, files } = await load();
  if (files["tokens.json"] === "[]") {
    console.log("waiting: the tokens were taken back");
    await waitForChange(version, Infinity);
    continue;
  }
  const began = Date.now(), last = await session(version, files);
  console.log(`not connected: ${last.ended}`);
  if (Date.now() - began > 30_000) wait = 1000, waitDead = 30_000;
  if (last.dead) {
    console.log("waiting: the broker does not take these tokens; others will come");
    await waitForChange(last.version, waitDead);
    waitDead = Math.min(2 * waitDead, longestDead);
  } else if (!changed(last.version)) {
    await waitForChange(last.version, wait);
    wait = Math.min(2 * wait, longest);
  }
}
