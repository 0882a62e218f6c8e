// Clients that introduce themselves with their first message, and a server that keeps nothing: greeting.mjs PORT

import { WebSocketServer } from "ws";

const server = new WebSocketServer({ host: "127.0.0.1", port: Number(process.argv[2]) });
server.on("listening", () => console.log(server.address().port));
server.on("connection", (socket) => {
  let name;
  socket.on("message", (data) => {
    if (name !== undefined) return socket.send(`${name}: ${data}`);
    name = String(data);
    socket.send(`hello ${name}`);
  });
});

process.once("SIGTERM", async () => {
  await Promise.all([...server.clients].map((socket) => new Promise((done) => {
    socket.once("close", done);
    socket.close(1012);
  })));
  process.exit(0);
});
