// A GraphQL server whose subscriptions count: graphql.mjs PORT. Numbers are of the machine's clock, which goes on where
// one process ends and another starts: a number that is not above the last was sent twice or came late. Prints the port
// it listens on. SIGTERM ends it in order: clients get Close 1001.

import { createServer } from "node:http";
import { setTimeout as pause } from "node:timers/promises";
import { buildSchema } from "graphql";
import { useServer } from "graphql-ws/lib/use/ws";
import { WebSocketServer } from "ws";

const [port] = process.argv.slice(2);
const schema = buildSchema(`
  type Query { process: Int! }
  type Subscription { count(of: String!): Count! }
  type Count { of: String!, number: Float!, process: Int! }
`);

async function* count({ of }) {
  for (;;) {
    yield { count: { of, number: Number(process.hrtime.bigint()), process: process.pid } };
    await pause(10);
  }
}

const http = createServer((_, response) => response.writeHead(404).end());
const server = new WebSocketServer({ server: http, path: "/graphql" });
const served = useServer({ schema, roots: { query: { process: process.pid }, subscription: { count } } }, server);
process.once("SIGTERM", async () => {
  // From here on nobody may connect: `useServer` takes no more handshakes, and each would be answered 404, for good.
  http.close();
  await served.dispose();
  process.exit(0);
});
http.listen(Number(port), "127.0.0.1", () => console.log(http.address().port));
