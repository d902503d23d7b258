// The other side of a link, for any RTCPeerConnection: in a page and in Node. A classic script that defines makePeer.
//
// It speaks just enough of docs/protocol.md to be a peer: channels 0 and 1 negotiated, each message one MESSAGE frame.
// Every payload says which it is and what bytes must follow, so each side can check each byte.

globalThis.makePeer = (RTCPeerConnection, configuration) => {
  const BULK = 0x20; // type 0 MESSAGE, priority 2, one piece
  const HIGH_SIZE = 1 << 20; // of what waits to be sent
  let connection, control, bulk, closed, received, damaged;
  let waiting = [];

  const payload = (index, size) => {
    const bytes = new Uint8Array(size);
    for (let i = 0; i < size; i++) bytes[i] = (index * 31 + i * 7) & 255;
    new DataView(bytes.buffer).setUint32(0, index);
    return bytes;
  };

  const isWhole = (bytes) => {
    const expected = payload(received, bytes.length);
    return bytes.every((byte, i) => byte === expected[i]);
  };

  const take = ({ data }) => {
    const bytes = new Uint8Array(data);
    if (bytes[1] !== 0 || !isWhole(bytes.subarray(2))) damaged++;
    received++;
    told();
  };

  const told = () => {
    const all = waiting;
    waiting = [];
    for (const wake of all) wake();
  };

  const until = async (condition) => {
    while (!condition()) await new Promise((wake) => waiting.push(wake));
  };

  const begin = () => {
    closed = false;
    received = damaged = 0;
    connection = new RTCPeerConnection(configuration);
    control = connection.createDataChannel("meshd", { negotiated: true, id: 0 });
    bulk = connection.createDataChannel("meshd-bulk", { negotiated: true, id: 1 });
    for (const channel of [control, bulk]) {
      channel.binaryType = "arraybuffer";
      channel.onmessage = take;
      channel.onopen = () => told();
      channel.onclose = () => { closed = true; told(); };
    }
  };

  const described = async (description) => {
    await connection.setLocalDescription(description);
    const gathered = () => connection.iceGatheringState === "complete";
    connection.onicegatheringstatechange = connection.onicecandidate = () => told();
    await until(gathered);
    return connection.localDescription.sdp;
  };

  return {
    async offer() {
      begin();
      return described(await connection.createOffer());
    },
    async answer(sdp) {
      begin();
      await connection.setRemoteDescription({ type: "offer", sdp });
      return described(await connection.createAnswer());
    },
    async accept(sdp) {
      await connection.setRemoteDescription({ type: "answer", sdp });
    },
    async opened() {
      await until(() => control.readyState === "open" && bulk.readyState === "open");
    },
    async send(count, size) {
      for (let index = 0; index < count; index++) {
        // Not every implementation says when its buffer has drained.
        while (bulk.bufferedAmount >= HIGH_SIZE) await new Promise((wake) => setTimeout(wake, 5));
        const frame = new Uint8Array(size + 2);
        frame[0] = BULK;
        frame.set(payload(index, size), 2);
        bulk.send(frame);
      }
    },
    async received(count) {
      await until(() => received >= count);
      return damaged;
    },
    async close() {
      // werift's connection goes without a word; its channels do not.
      control.close();
      bulk.close();
      await until(() => closed);
      connection.close();
    },
    async closed() {
      await until(() => closed);
    },
  };
};
