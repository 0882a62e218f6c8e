"""A backend that answers requests, a long one at /long, and echoes the messages of WebSockets: backend.py ADDRESS_FILE"""

import asyncio
import base64
import hashlib
import sys

LONG = b"x" * (8 << 20)
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


async def serve(reader, writer):
    try:
        while True:
            lines = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
            fields = dict(line.lower().split(b": ", 1) for line in lines[1:] if line)
            raw = dict(line.split(b": ", 1) for line in lines[1:] if line)
            key = next((value for name, value in raw.items() if name.lower() == b"sec-websocket-key"), None)
            if key:
                accept = base64.b64encode(hashlib.sha1(key + GUID).digest())
                writer.write(
                    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                    b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
                )
                return await echo(reader, writer)
            await reader.readexactly(int(fields.get(b"content-length", 0)))
            body = LONG if lines[0].split(b" ")[1] == b"/long" else b"ok"
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def echo(reader, writer):
    """Sends short messages back, unmasked."""
    while True:
        first, length = await reader.readexactly(2)
        mask = await reader.readexactly(4)
        payload = bytes(byte ^ mask[i % 4] for i, byte in enumerate(await reader.readexactly(length & 0x7F)))
        writer.write(bytes([first, len(payload)]) + payload)
        await writer.drain()
        if first == 0x88:
            return


async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=4096)
    with open(sys.argv[1], "w") as file:
        file.write("127.0.0.1:%d" % server.sockets[0].getsockname()[1])
    await server.serve_forever()


asyncio.run(main())
