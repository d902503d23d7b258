// Native stacks by their Node bindings: `channel.mjs node-datachannel|@roamhq/wrtc a|b ADDRESS`.
import { createRequire } from "node:module";
import { Work, listen, monotonic, say } from "./work.mjs";

const HIGH_SIZE = 1 << 20; // bytes that wait in the channel before we stop, and
const LOW_SIZE = 1 << 18; // when we go on
const LOOK_INTERVAL = 2; // milliseconds

const [name, role, address] = process.argv.slice(2);
const require = createRequire(new URL("../node/package.json", import.meta.url));
const offers = role === "a";
let work;
let describedAt = 0;

function libdatachannel({ PeerConnection }) {
  // Only what is needed to meet: one address, a buffer for what is sent at once.
  const connection = new PeerConnection("bench", { iceServers: [], bindAddress: address });
  let described;
  connection.onGatheringStateChange((state) => {
    if (state === "complete") say({ describe: { ...connection.localDescription() } });
  });
  const opened = (channel) => {
    channel.setBufferedAmountLowThreshold(LOW_SIZE);
    work = new Work((message) => channel.sendMessageBinary(message), () => channel.bufferedAmount() < HIGH_SIZE);
    channel.onMessage((message) => work.received(Buffer.from(message)));
    channel.onBufferedAmountLow(() => work.pump());
    say({ open: monotonic() - describedAt });
  };
  if (offers) {
    described = connection.createDataChannel("bench");
    described.onOpen(() => opened(described));
  } else {
    connection.onDataChannel((channel) => {
      described = channel; // held, or it would be collected
      if (channel.isOpen()) opened(channel);
      else channel.onOpen(() => opened(channel));
    });
  }
  return ({ sdp, type }) => connection.setRemoteDescription(sdp, type);
}

function libwebrtc({ RTCPeerConnection }) {
  const connection = new RTCPeerConnection({ iceServers: [] });
  let said = false;
  connection.onicecandidate = ({ candidate }) => {
    if (candidate !== null || said) return; // the end of the candidates may come twice
    said = true;
    say({ describe: { sdp: connection.localDescription.sdp, type: connection.localDescription.type } });
  };
  const opened = (channel) => {
    channel.binaryType = "arraybuffer";
    work = new Work((message) => channel.send(message), () => channel.bufferedAmount < HIGH_SIZE);
    channel.onmessage = ({ data }) => work.received(Buffer.from(data));
    setInterval(() => work.pump(), LOOK_INTERVAL); // its event comes late and seldom
    say({ open: monotonic() - describedAt });
  };
  if (offers) {
    const channel = connection.createDataChannel("bench");
    channel.onopen = () => opened(channel);
    connection.createOffer().then((offer) => connection.setLocalDescription(offer));
  } else {
    connection.ondatachannel = ({ channel }) => {
      if (channel.readyState === "open") opened(channel);
      else channel.onopen = () => opened(channel);
    };
  }
  return async (description) => {
    await connection.setRemoteDescription(description);
    if (!offers) await connection.setLocalDescription(await connection.createAnswer());
  };
}

const library = require(name);
const setRemote = name === "node-datachannel" ? libdatachannel(library) : libwebrtc(library);
listen((description) => {
  describedAt = monotonic();
  setRemote(description);
}, () => work);
setInterval(() => {}, 1000); // stay
