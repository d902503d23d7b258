// push_service.cjs: npm web-push-testing at a port of the system's choice, which is the line it prints.
const { createRequire } = require("node:module");
const path = require("node:path");

const load = createRequire(path.join(__dirname, "../../bench/node/package.json"));
const { PushApiModel } = load("web-push-testing/src/PushApiModel");
const Server = load("web-push-testing/src/server");

console.log = console.error; // it says which port it was told
const model = new PushApiModel();
const server = new Server(model, 0);
server.startServer();
server._server.on("listening", () => {
  const origin = `http://127.0.0.1:${server._server.address().port}`;
  model.notifyUrl = `${origin}/notify/`; // it builds that from the port it was told
  process.stdout.write(`${origin}\n`);
});
