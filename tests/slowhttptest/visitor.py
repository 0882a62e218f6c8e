"""Asks a gateway for requests and messages until a file is there: visitor.py PLAIN_ADDRESS TLS_ADDRESS STOP_FILE

One tunnel a listener stays open all along; new requests and new tunnels come one after the other. Whatever is not
answered within 60 seconds ends it with an error.
"""

import os
import socket
import ssl
import sys
import time

PATIENCE = 60
# The attackers have an address of their own, whose connections are limited.
VISITOR = ("127.0.0.2", 0)
UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: lab\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
MESSAGE = b"\x81\x85\0\0\0\0hello"


def connect(address, tls):
    host, port = address.rsplit(":", 1)
    connection = socket.create_connection((host, int(port)), PATIENCE, source_address=VISITOR)
    if tls:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = context.wrap_socket(connection)
    return connection


def head(connection):
    read = b""
    while not read.endswith(b"\r\n\r\n"):
        byte = connection.recv(1)
        assert byte, "the connection ended within a head"
        read += byte
    return read


def exactly(connection, count):
    read = b""
    while len(read) < count:
        more = connection.recv(count - len(read))
        assert more, "the connection ended"
        read += more
    return read


def talk(connection):
    connection.sendall(MESSAGE)
    assert exactly(connection, 7) == b"\x81\x05hello"


def tunnel(address, tls):
    connection = connect(address, tls)
    connection.sendall(UPGRADE)
    assert head(connection).startswith(b"HTTP/1.1 101 "), "no tunnel"
    talk(connection)
    return connection


def request(address, tls):
    with connect(address, tls) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n")
        assert head(connection).startswith(b"HTTP/1.1 200 "), "no answer"
        assert exactly(connection, 2) == b"ok"


def main():
    listeners = [(sys.argv[1], False), (sys.argv[2], True)]
    open_ones = [tunnel(*listener) for listener in listeners]
    visits, longest = 0, 0.0
    while not os.path.exists(sys.argv[3]):
        for listener, old in zip(listeners, open_ones):
            begun = time.monotonic()
            request(*listener)
            tunnel(*listener).close()
            talk(old)
            longest = max(longest, time.monotonic() - begun)
            visits += 1
        time.sleep(0.1)
    assert visits > 20, "hardly any visits"
    print("%d visits of a request, a new tunnel and an old one; the longest took %.2f s" % (visits, longest))


main()
