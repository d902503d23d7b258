// send.cjs: npm web-push sends one push. On standard input: {subscription, payload (base64), options}.
const { createRequire } = require("node:module");
const path = require("node:path");
const { text } = require("node:stream/consumers");

const webpush = createRequire(path.join(__dirname, "../../bench/node/package.json"))("web-push");

text(process.stdin).then(async (input) => {
  const { subscription, payload, options } = JSON.parse(input);
  try {
    const { statusCode } = await webpush.sendNotification(subscription, Buffer.from(payload, "base64"), options);
    console.log(statusCode);
  } catch (error) {
    console.log(error.statusCode ?? error);
  }
});
