#!/usr/bin/env python3
"""A WebSocket backend that echoes, and a client that counts what comes back; the standard library is all that they need.

    tunnel.py echo PORT           listens on 127.0.0.1 and sends every message back
    tunnel.py hold PORT FILE      opens one tunnel, sends numbers, and writes the last one that came back into FILE
    tunnel.py get PORT            prints the status of a plain request

`hold` prints `closed CODE` and exits with 0 when it is sent a Close frame. It exits with 1 when its tunnel is lost, or when an
answer is not the number that was sent.
"""

import base64
import hashlib
import os
import socket
import struct
import sys
import threading
import time

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10


def exactly(stream, length):
    data = stream.read(length)
    if len(data) != length:
        raise ConnectionError("the connection ended")
    return data


def head(stream):
    lines = []
    while True:
        line = stream.readline(65536)
        if not line:
            raise ConnectionError("the connection ended within a head")
        if line in (b"\r\n", b"\n"):
            return lines
        lines.append(line.strip())


def read_frame(stream):
    """The opcode and the payload of one frame; messages here are short and come in one."""
    first, second = exactly(stream, 2)
    length = second & 127
    if length == 126:
        (length,) = struct.unpack("!H", exactly(stream, 2))
    mask = exactly(stream, 4) if second & 128 else None
    payload = exactly(stream, length)
    if mask:
        payload = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
    return first & 15, payload


def write_frame(connection, opcode, payload, masked):
    frame = bytes([128 | opcode, len(payload) | (128 if masked else 0)])
    if masked:
        mask = os.urandom(4)
        frame += mask
        payload = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
    connection.sendall(frame + payload)


def serve(connection):
    stream = connection.makefile("rb")
    try:
        lines = head(stream)
        key = next((line.split(b":", 1)[1].strip() for line in lines if line.lower().startswith(b"sec-websocket-key:")), None)
        if key is None:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nhi\n")
            return
        accept = base64.b64encode(hashlib.sha1(key + GUID).digest())
        connection.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        while True:
            opcode, payload = read_frame(stream)
            write_frame(connection, PONG if opcode == PING else opcode, payload, masked=False)
            if opcode == CLOSE:
                return
    except (ConnectionError, OSError):
        pass
    finally:
        connection.close()


def echo(port):
    listener = socket.create_server(("127.0.0.1", port))
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection,), daemon=True).start()


def hold(port, file):
    connection = socket.create_connection(("127.0.0.1", port))
    stream = connection.makefile("rb")
    key = base64.b64encode(os.urandom(16))
    connection.sendall(
        b"GET / HTTP/1.1\r\nHost: trial\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: " + key + b"\r\n\r\n"
    )
    status = head(stream)[0]
    if b" 101 " not in status:
        sys.exit(f"no tunnel: {status.decode()}")
    number = 0
    while True:
        number += 1
        write_frame(connection, TEXT, str(number).encode(), masked=True)
        while True:
            opcode, payload = read_frame(stream)
            if opcode != PING:
                break
            write_frame(connection, PONG, payload, masked=True)
        if opcode == CLOSE:
            write_frame(connection, CLOSE, payload, masked=True)
            print("closed", struct.unpack("!H", payload[:2])[0], flush=True)
            return
        if payload != str(number).encode():
            sys.exit(f"{payload!r} came back for {number}")
        with open(file + ".new", "w", encoding="ascii") as out:
            out.write(str(number))
        os.replace(file + ".new", file)
        time.sleep(0.02)


def get(port):
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: trial\r\nConnection: close\r\n\r\n")
        print(head(connection.makefile("rb"))[0].decode().split()[1])


if __name__ == "__main__":
    command, port, *rest = sys.argv[1:]
    try:
        {"echo": echo, "hold": hold, "get": get}[command](int(port), *rest)
    except ConnectionError as error:
        sys.exit(f"lost: {error}")
