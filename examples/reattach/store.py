"""A list for each client, kept in a database under the session that the gateway names: store.py PORT FILE"""

import asyncio
import signal
import sqlite3
import sys

from websockets.asyncio.server import serve

port, file = int(sys.argv[1]), sys.argv[2]
database = sqlite3.connect(file)
database.execute("CREATE TABLE IF NOT EXISTS items (session TEXT, item TEXT)")


async def client(socket):
    headers = socket.request.headers
    session = headers["Longhaul-Session"]
    # A client that is re-attached has been greeted, by the process before.
    if "Longhaul-Reattach" not in headers:
        await socket.send("welcome")
    async for item in socket:
        # Kept first, answered then: an answer is never about something that a restart forgets.
        with database:
            database.execute("INSERT INTO items VALUES (?, ?)", (session, item))
        rows = database.execute("SELECT item FROM items WHERE session = ? ORDER BY rowid", (session,))
        await socket.send(", ".join(row[0] for row in rows))


async def main():
    stop = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set_result, None)
    async with serve(client, "127.0.0.1", port) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await stop
        # The gateway takes 1012 for what it is: a restart.
        server.close(code=1012)


asyncio.run(main())
