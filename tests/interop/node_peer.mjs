// node_peer.mjs NAME: peer.js over one of the implementations for Node. A request and an answer are a line of JSON each.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import "./peer.js";

const require = createRequire(new URL("../../bench/node/package.json", import.meta.url));
const packages = { wrtc: "@roamhq/wrtc", "node-datachannel": "node-datachannel/polyfill", werift: "werift" };

const { RTCPeerConnection } = require(packages[process.argv[2]]);
const peer = globalThis.makePeer(RTCPeerConnection, { iceServers: [] });
for await (const line of createInterface({ input: process.stdin })) {
  const { id, method, parameters } = JSON.parse(line);
  // Not awaited: `received` may wait while `send` runs.
  peer[method](...parameters).then(
    (result) => console.log(JSON.stringify({ id, result })),
    (error) => console.log(JSON.stringify({ id, error: String(error) })),
  );
}
process.exit(0);
