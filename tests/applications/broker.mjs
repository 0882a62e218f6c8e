// An MQTT broker that keeps nothing: broker.mjs PORT. Prints the port it listens on. SIGTERM ends it in order: clients
// get Close 1001.

import { createServer } from "node:http";
import Aedes from "aedes";
import { createWebSocketStream, WebSocketServer } from "ws";

const [port] = process.argv.slice(2);
const broker = new Aedes();
const http = createServer((_, response) => response.writeHead(404).end());
const server = new WebSocketServer({ server: http, handleProtocols: (offered) => offered.has("mqtt") && "mqtt" });
server.on("connection", (socket) => {
  const stream = createWebSocketStream(socket);
  stream.on("error", () => socket.terminate());
  broker.handle(stream);
});
process.once("SIGTERM", async () => {
  http.close();
  const closed = [...server.clients].map((socket) => new Promise((done) => {
    socket.once("close", done);
    socket.close(1001);
  }));
  await Promise.all(closed);
  process.exit(0);
});
http.listen(Number(port), "127.0.0.1", () => console.log(http.address().port));
