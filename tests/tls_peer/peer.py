"""An independent client of TLS (tlslite-ng) against Longhaul: records, alerts, KeyUpdate and tickets.

The cases are those that scripts of tlsfuzzer try, which is built on the same library. Each has a connection of its own:
on a tunnel (the record layer of tunnels), where a head is awaited, and on a connection that is kept after a request
(rustls, on a worker and on a runtime). Of tlsfuzzer's scripts those on handshakes, certificates, extensions and key
exchange test rustls alone; those on CBC, RC4, RSA key exchange, compression, renegotiation and 0-RTT are about what is
not offered."""

import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

from tlslite.api import HandshakeSettings, TLSConnection
from tlslite.constants import AlertDescription, ContentType, KeyUpdateMessageType
from tlslite.errors import TLSAbruptCloseError, TLSRemoteAlert
from tlslite.messages import ApplicationData, Message

PATIENCE = 30
UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
ACCEPTED = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)


def serve(listener):
    """A backend: accepts a WebSocket and then sends every byte back. Longhaul follows the frames on their way, so what
    comes back must be frames without masks: clients send them with a mask of zeros, and the backend takes it out."""

    def frames(connection, unread):
        while True:
            while len(unread) < 2 or len(unread) < length_of(unread):
                more = connection.recv(65536)
                if not more:
                    return
                unread += more
            head, payload, unread = split(unread)
            connection.sendall(head + payload)

    def handle(connection):
        try:
            head = b""
            while b"\r\n\r\n" not in head:
                more = connection.recv(65536)
                if not more:
                    return
                head += more
            if b"upgrade: websocket" not in head.lower():
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                return
            connection.sendall(ACCEPTED)
            frames(connection, head.split(b"\r\n\r\n", 1)[1])
        except OSError:
            pass
        finally:
            connection.close()

    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=handle, args=(connection,), daemon=True).start()


def extended(data):
    """Bytes of the head of a client's frame, and of its payload; of the head alone while that is not whole."""
    short = data[1] & 0x7F
    size = {126: 2, 127: 8}.get(short, 0)
    if len(data) < 2 + size:
        return 2 + size + 4, 0
    payload = int.from_bytes(data[2 : 2 + size], "big") if size else short
    return 2 + size + 4, payload


def length_of(data):
    head, payload = extended(data)
    return head + payload


def split(data):
    head, payload = extended(data)
    return frame_head(data[0], payload, 0), data[head : head + payload], data[head + payload :]


def frame_head(first, length, mask):
    if length < 126:
        return bytes([first, mask | length])
    if length < 65536:
        return bytes([first, mask | 126]) + struct.pack(">H", length)
    return bytes([first, mask | 127]) + struct.pack(">Q", length)


def message(payload):
    """A client's binary message, masked with zeros, and the bytes that come back."""
    return frame_head(0x82, len(payload), 0x80) + bytes(4) + payload, frame_head(0x82, len(payload), 0) + payload


class Client:
    """A connection by TLS."""

    def __init__(self, port, version=(3, 4), suite="aes128gcm", session=None):
        self.is_tunnel = False
        settings = HandshakeSettings()
        settings.minVersion = settings.maxVersion = version
        settings.cipherNames = [suite]
        settings.keyShares = ["x25519"]
        self.socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self.socket.settimeout(PATIENCE)
        self.tls = TLSConnection(self.socket)
        self.tls.closeSocket = False
        self.tls.ignoreAbruptClose = False
        self.tls.handshakeClientCert(settings=settings, session=session, serverName="localhost")

    def upgrade(self):
        self.is_tunnel = True
        self.tls.sendall(UPGRADE)
        head = b""
        while b"\r\n\r\n" not in head:
            head += self.tls.recv(1)
        assert head.startswith(b"HTTP/1.1 101 "), head
        return self

    def ask(self):
        """Sends a plain request, which is answered, and keeps the connection: Pingora has it from then on."""
        self.tls.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        head = b""
        while b"\r\n\r\n" not in head:
            head += self.tls.recv(1)
        assert head.startswith(b"HTTP/1.1 200 "), head
        return self

    def hears(self, wanted):
        heard = b""
        while len(heard) < len(wanted):
            more = self.tls.recv(len(wanted) - len(heard))
            assert more, "the end after %d of %d bytes" % (len(heard), len(wanted))
            heard += more
        assert heard == wanted, "other bytes came back"

    def echoes(self, payload=b"hello"):
        sent, wanted = message(payload)
        self.tls.sendall(sent)
        self.hears(wanted)

    def record(self, kind, data):
        """Sends one sealed record, whatever its kind and length."""
        for _ in self.tls._recordLayer.sendRecord(Message(kind, bytearray(data))):
            pass

    def sealed(self, data):
        """The bytes of a sealed record, unsent."""
        kept, real = bytearray(), self.tls._recordLayer._recordSocket.sock

        class Sink:
            def send(self, more):
                kept.extend(more)
                return len(more)

        self.tls._recordLayer._recordSocket.sock = Sink()
        try:
            self.record(ContentType.application_data, data)
        finally:
            self.tls._recordLayer._recordSocket.sock = real
        return kept

    def is_ended_with(self, *alerts, rustls=()):
        """Reads to the end, which has to be one of these alerts; None stands for an end without any. Where rustls reads
        the records, `rustls` is what that says as well."""
        alerts += () if self.is_tunnel else rustls
        try:
            while self.tls.recv(65536):
                pass
            ended = "close_notify"
        except TLSRemoteAlert as alert:
            ended = alert.description
        except (TLSAbruptCloseError, ConnectionResetError, BrokenPipeError):
            ended = None
        assert ended in alerts, "ended with %s, not %s" % (ended, alerts)

    def close(self):
        self.socket.close()


CASES = []


def case(*stages, versions=((3, 4), (3, 3))):
    def add(function):
        CASES.append((function, stages, versions))
        return function

    return add


@case("tunnel")
def messages_of_every_length_come_back(client):
    for length in [0, 1, 125, 126, 16_383, 16_384, 16_385, 70_000]:
        client.echoes(bytes(index % 251 for index in range(length)))


@case("tunnel")
def a_message_in_records_of_one_byte_each_comes_back(client):
    sent, wanted = message(b"in very small pieces")
    for byte in sent:
        client.record(ContentType.application_data, [byte])
    client.hears(wanted)


@case("tunnel")
def a_few_empty_records_are_nothing(client):
    sent, wanted = message(b"with nothing in between")
    for byte in sent[:10]:
        client.record(ContentType.application_data, [])
        client.record(ContentType.application_data, [byte])
    client.record(ContentType.application_data, sent[10:])
    client.hears(wanted)


@case("tunnel", "head", "kept")
def a_flood_of_empty_records_is_ended(client):
    try:
        for _ in range(20_000):
            client.record(ContentType.application_data, [])
    except OSError:
        pass
    client.is_ended_with(AlertDescription.unexpected_message, None)


@case("tunnel")
def records_cut_anywhere_come_back(client):
    for cut in [1, 4, 5, 6, 20]:
        sent, wanted = message(b"cut at %d" % cut)
        sealed = client.sealed(sent)
        client.socket.sendall(sealed[:cut])
        time.sleep(0.02)  # So that the first part is read alone; either way the bytes are the same.
        client.socket.sendall(sealed[cut:])
        client.hears(wanted)


@case("tunnel", "head", "kept")
def a_bit_that_flipped_is_a_bad_record_mac(client):
    sealed = client.sealed(b"GET / HTTP/1.1\r\n")
    sealed[-1] ^= 1
    client.socket.sendall(sealed)
    client.is_ended_with(AlertDescription.bad_record_mac)


@case("tunnel", "head", "kept")
def a_record_that_is_too_long_is_a_record_overflow(client):
    length = 2**14 + 257 if client.tls.version == (3, 4) else 2**14 + 2049
    client.socket.sendall(bytes([23, 3, 3]) + struct.pack(">H", length) + bytes(length))
    others = (AlertDescription.bad_record_mac, AlertDescription.decode_error)
    client.is_ended_with(AlertDescription.record_overflow, rustls=others)


@case("tunnel", "head", "kept")
def a_record_of_an_unknown_kind_is_refused(client):
    client.record(99, b"what is this")
    client.is_ended_with(AlertDescription.unexpected_message, AlertDescription.decode_error)


@case("tunnel", "head", "kept")
def bytes_that_are_no_record_are_refused(client):
    client.socket.sendall(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n" * 20)
    alerts = ["unexpected_message", "decode_error", "record_overflow", "protocol_version", "bad_record_mac"]
    client.is_ended_with(*[getattr(AlertDescription, name) for name in alerts])


@case("tunnel", versions=((3, 4),))
def keys_change_as_often_as_the_client_likes(client):
    for number in range(20):
        requested = number % 2 == 0
        kind = KeyUpdateMessageType.update_requested if requested else KeyUpdateMessageType.update_not_requested
        for _ in client.tls.send_keyupdate_request(kind):
            pass
        client.echoes(b"after change %d" % number)


@case("tunnel", "head", "kept", versions=((3, 4),))
def a_key_update_of_a_wrong_kind_is_refused(client):
    client.record(ContentType.handshake, [24, 0, 0, 1, 7])
    client.is_ended_with(AlertDescription.illegal_parameter, AlertDescription.decode_error)


@case("tunnel", "head", "kept", versions=((3, 4),))
def a_second_hello_is_refused(client):
    client.record(ContentType.handshake, [1, 0, 0, 4, 0, 0, 0, 0])
    client.is_ended_with(AlertDescription.unexpected_message, rustls=(AlertDescription.decode_error,))


@case("tunnel", versions=((3, 3),))
def a_renegotiation_is_refused(client):
    client.record(ContentType.handshake, [1, 0, 0, 4, 0, 0, 0, 0])
    alerts = ["unexpected_message", "no_renegotiation", "decode_error"]
    client.is_ended_with(*[getattr(AlertDescription, name) for name in alerts])


@case("tunnel")
def a_fatal_alert_ends_the_tunnel(client):
    client.record(ContentType.alert, [2, AlertDescription.internal_error])
    client.is_ended_with("close_notify", None)


@case("tunnel")
def what_came_before_close_notify_is_answered_and_so_is_it(client):
    sent, wanted = message(b"the last words")
    client.record(ContentType.application_data, sent)
    client.record(ContentType.alert, [1, AlertDescription.close_notify])
    client.hears(wanted)
    client.is_ended_with("close_notify")


def tickets_resume(port, version):
    """A ticket of one connection is taken up by the next, which carries a tunnel as well."""
    first = Client(port, version).upgrade()
    first.echoes()
    again = Client(port, version, session=first.tls.session).upgrade()
    assert again.tls.resumed, "the session was not taken up"
    again.echoes(b"resumed")
    first.close()
    again.close()


def start(binary, folder, backend):
    key, cert = folder + "/key.pem", folder + "/cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-keyout", key, "-out", cert], check=True, stderr=subprocess.DEVNULL)  # fmt: skip
    with open(folder + "/longhaul.yaml", "w") as file:
        file.write(
            "version: 1\nthreads: 2\naccess_log: off\nlisteners:\n  - address: 127.0.0.1:0\n    tls: { certificates: "
            "[{ cert: %s, key: %s }] }\nroutes:\n  - upstream: echo\nupstreams:\n  echo: { health: off, backends: "
            "['127.0.0.1:%d'] }\n" % (cert, key, backend)
        )
    log = open(folder + "/log", "w+")
    environment = dict(os.environ, RUNTIME_DIRECTORY=folder)
    gateway = subprocess.Popen([binary, "-c", folder + "/longhaul.yaml"], stderr=log, env=environment)
    for _ in range(PATIENCE * 10):
        found = re.search(r"listening on \S*?127\.0\.0\.1:(\d+)", open(folder + "/log").read())
        if found:
            return gateway, int(found.group(1))
        time.sleep(0.1)
    raise SystemExit(open(folder + "/log").read())


def attempt(name, function):
    try:
        function()
        print("ok      " + name, flush=True)
        return 0
    except Exception as error:  # noqa: BLE001: each failure of whatever kind is told, and the next case tried
        print("FAILED  %s: %s: %s" % (name, type(error).__name__, error), flush=True)
        return 1


def run(port, function, stage, version, suite):
    client = Client(port, version, suite)
    try:
        function({"tunnel": client.upgrade, "head": lambda: client, "kept": client.ask}[stage]())
    finally:
        client.close()


def main(binary):
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    threading.Thread(target=serve, args=(listener,), daemon=True).start()
    folder = tempfile.mkdtemp()
    gateway, port = start(binary, folder, listener.getsockname()[1])
    names, failed = {(3, 3): "TLS 1.2", (3, 4): "TLS 1.3"}, 0
    try:
        for function, stages, versions in CASES:
            for stage in stages:
                for version in versions:
                    for suite in ["aes128gcm", "aes256gcm", "chacha20-poly1305"]:
                        name = "%s (%s, %s, %s)" % (function.__name__, stage, names[version], suite)
                        failed += attempt(name, lambda: run(port, function, stage, version, suite))
        failed += attempt("tickets_resume (TLS 1.3)", lambda: tickets_resume(port, (3, 4)))
        failed += attempt("another client is served after all that", lambda: Client(port).upgrade().echoes())
        if gateway.poll() is not None:
            failed += attempt("the gateway lives", lambda: 1 / 0)
    finally:
        gateway.send_signal(signal.SIGINT)
        gateway.wait(PATIENCE)
        shutil.rmtree(folder)
    if failed:
        raise SystemExit("%d cases failed" % failed)


if __name__ == "__main__":
    main(sys.argv[1])
