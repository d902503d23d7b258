// What both ends of a pair do once they are connected: bench/contestants/work.py for Node, line for line.
import { createInterface } from "node:readline";
import { writeSync } from "node:fs";

const BULK_SIZE = 16384;
const PING_SIZE = 100;
const BULK = 0, PING = 1, PONG = 2;
const HEADER_SIZE = 9;
const SAMPLE_INTERVAL = 0.05;
const TURN_COUNT = 16;

const PATTERN = Buffer.from(Array.from({ length: BULK_SIZE + 256 }, (_, n) => (n * 31 + (n >> 8) * 17) & 0xff));

export const monotonic = () => Number(process.hrtime.bigint()) / 1e9;
export const say = (line) => writeSync(1, JSON.stringify(line) + "\n");

function bulkMessage(number) {
  const message = Buffer.allocUnsafe(BULK_SIZE);
  message[0] = BULK;
  message.writeBigUInt64BE(BigInt(number), 1);
  PATTERN.copy(message, HEADER_SIZE, number & 0xff, (number & 0xff) + BULK_SIZE - HEADER_SIZE);
  return message;
}

function isBulkMessage(message, number) {
  const start = number & 0xff;
  return message.length === BULK_SIZE && message.readBigUInt64BE(1) === BigInt(number) &&
    message.compare(PATTERN, start, start + BULK_SIZE - HEADER_SIZE, HEADER_SIZE) === 0;
}

export class Work {
  #sending = false;
  #sent = 0;
  #received = 0;
  #size = 0;
  #wrong = 0;
  #delivered = [];
  #sampled = 0;
  #turnComes = false;
  #asked = 0;
  #pingsLeft = 0;
  #interval = 0;
  #roundTrips = [];

  constructor(send, hasRoom) {
    this.send = send;
    this.hasRoom = hasRoom;
  }

  do(command) {
    if (command.do === "bulk") {
      this.#sending = true;
      this.pump();
    } else if (command.do === "ping") {
      this.#asked = this.#pingsLeft = command.count;
      this.#interval = command.interval;
      this.#roundTrips = [];
      this.#ping();
    } else if (command.do === "report") {
      say({ delivered: [...this.#delivered, [monotonic(), this.#size]], wrong: this.#wrong });
    }
  }

  pump() {
    if (!this.#sending || this.#turnComes) return;
    for (let n = 0; n < TURN_COUNT; n++) {
      if (!this.hasRoom()) return;
      this.send(bulkMessage(this.#sent++));
    }
    this.#turnComes = true;
    setImmediate(() => {
      this.#turnComes = false;
      this.pump();
    });
  }

  received(message) {
    const kind = message[0];
    if (kind === BULK) {
      if (!isBulkMessage(message, this.#received)) this.#wrong++;
      this.#received++;
      this.#size += message.length;
      const now = monotonic();
      if (now - this.#sampled >= SAMPLE_INTERVAL) {
        this.#sampled = now;
        this.#delivered.push([now, this.#size]);
      }
    } else if (kind === PING) {
      message[0] = PONG;
      this.send(message);
    } else {
      this.#roundTrips.push(monotonic() - message.readDoubleBE(1));
      if (this.#roundTrips.length === this.#asked) say({ round_trips: this.#roundTrips });
      else if (this.#interval === 0) this.#ping();
    }
  }

  #ping() {
    const message = Buffer.alloc(PING_SIZE);
    message[0] = PING;
    message.writeDoubleBE(monotonic(), 1);
    this.#pingsLeft--;
    this.send(message);
    if (this.#interval > 0 && this.#pingsLeft > 0) setTimeout(() => this.#ping(), this.#interval * 1000);
  }
}

export function listen(onDescription, work) {
  const lines = createInterface({ input: process.stdin });
  lines.on("line", (text) => {
    const line = JSON.parse(text);
    if ("describe" in line) onDescription(line.describe);
    else work()?.do(line);
  });
  lines.on("close", () => process.exit(0));
}
