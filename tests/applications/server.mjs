// One process of a stateful application: socket.io and SockJS, whose sessions live in its memory and nowhere else.
// Prints the port it listens on.

import { createServer } from "node:http";
import { Server } from "socket.io";
import sockjs from "sockjs";

const me = `${process.pid}`;
// Milliseconds for which a session outlives its last request, and an upgrade its first: on a busy machine a client may take
// its time to ask again.
const PATIENCE = 60_000;
const http = createServer((_, response) => response.writeHead(404).end());

// A socket.io server on a path of its own; `more` are options of its engine.
function socketIo(path, more) {
  const server = new Server(http, { path, serveClient: false, destroyUpgrade: false, upgradeTimeout: PATIENCE, ...more });
  server.on("connection", (socket) => {
    let seen = 0;
    socket.on("ask", (answer) => answer({ process: me, seen: ++seen }));
  });
}
socketIo("/plain/", {});
socketIo("/cookie/", { cookie: { name: "io", path: "/", httpOnly: true } });
socketIo("/naive/", { cookie: { name: "io", path: "/", httpOnly: true } });

for (const [prefix, jsessionid] of [["/dummy", true], ["/issued", false]]) {
  const echo = sockjs.createServer({ jsessionid, disconnect_delay: PATIENCE, log: () => {} });
  echo.on("connection", (connection) => {
    let seen = 0;
    connection.on("data", () => connection.write(JSON.stringify({ process: me, seen: ++seen })));
  });
  echo.installHandlers(http, { prefix });
}

// Node ends a connection after 5 s without a request, also where one has come that it has not read yet: a POST on a connection
// that the gateway kept is lost so, and answered 502, for nobody may repeat it.
http.keepAliveTimeout = PATIENCE;
http.listen(0, "127.0.0.1", () => console.log(http.address().port));
