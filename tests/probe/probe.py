"""Sends mutants of good HTTP/1 requests through a gateway, and compares what reached the backend as three read it.

Usage: probe.py LONGHAUL [SEED [COUNT]]   (run.sh installs what it imports)

Whatever the gateway forwards is to be read alike by h11, by llhttp (httptools) and by the gateway itself, whose word is its
access log: the number of requests, and of each its method, target, host, and body. The seed is printed; with it the same mutants
are made again.
"""

import asyncio
import contextlib
import json
import os
import random
import re
import signal
import sys
import tempfile
import time

import h11
import httptools

TOGETHER = 12
PATIENCE = 30

GOOD = [
    b"GET /a/b?c=d HTTP/1.1\r\nHost: example.com\r\nAccept: */*\r\nCookie: sid=1; room=2\r\n\r\n",
    b"GET /first HTTP/1.1\r\nHost: example.com\r\n\r\nGET /second HTTP/1.1\r\nHost: example.com\r\n\r\n",
    b"POST /length HTTP/1.1\r\nHost: example.com\r\nContent-Length: 11\r\nContent-Type: text/plain\r\n\r\nhello world",
    b"POST /equal HTTP/1.1\r\nHost: example.com\r\nContent-Length: 5, 5\r\n\r\nhelloGET /behind HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST /chunks HTTP/1.1\r\nHost: example.com\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
    b"PUT /extension HTTP/1.1\r\nHost: example.com\r\nTransfer-Encoding: Chunked\r\nTrailer: x\r\n\r\n"
    b"5;a=\"b\"\r\nhello\r\nA \r\n0123456789\r\n000\r\nx: y\r\n\r\nGET /behind HTTP/1.1\r\nHost: example.com\r\n\r\n",
    b"GET http://example.com:80/absolute?x HTTP/1.1\r\nHost: other.example\r\nConnection: keep-alive, x-hop\r\nX-Hop: 1\r\n\r\n",
    b"HEAD / HTTP/1.1\r\nHost: example.com\r\n\r\nDELETE /x HTTP/1.1\r\nHost: example.com\r\nContent-Length: 0\r\n\r\n",
    b"GET /old HTTP/1.0\r\nHost: example.com\r\nConnection: keep-alive\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: example.com\r\n\r\n",
    b"POST /expect HTTP/1.1\r\nHost: example.com\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
    b"GET /ws HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\nGET /behind HTTP/1.1\r\nHost: example.com\r\n\r\n",
    b"GET /ws?x=%20&y HTTP/1.1\r\nHost: example.com\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\n"
    b"HTTP2-Settings: AAMAAABk\r\n\r\n",
]

# What attacks on the reading of requests are made of.
LINES = [
    b"Content-Length: 0", b"Content-Length: 3", b"Content-Length: +5", b"Content-Length: 5, 6", b"Content-Length: 0x5",
    b"Content-Length : 5", b"Content-Length:\x0b5", b"Content-Length: 5\r\n\t", b"Content-Length:", b"content-length: 05",
    b"Content_Length: 7", b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity", b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: chunked, chunked", b"Transfer-Encoding:\tchunked", b"Transfer-Encoding: chunked;q=1",
    b"Transfer-Encoding : chunked", b" Transfer-Encoding: chunked", b"Transfer-Encoding: xchunked", b"Transfer-Encoding:",
    b"Transfer-Encoding\x00: chunked", b"X: y\rTransfer-Encoding: chunked", b"X: y\nTransfer-Encoding: chunked",
    b"Transfer_Encoding: chunked", b"Host: evil.example", b"Host:", b"Connection: close", b"Connection: content-length",
    b"Connection: transfer-encoding, host", b"Connection: keep-alive, cookie, x-forwarded-for", b"Upgrade: websocket",
    b"Expect: 100-continue", b"Trailer: content-length", b"TE: trailers", b"X-Folded: a\r\n b", b"X-Forwarded-For: 6.6.6.6",
    b"X-Empty:", b": no name", b"no colon", b"X-High: \xc3\xbc\xff", b"X-Null: \x00", b"Max-Forwards: 0",
]
PIECES = [
    b"\r\n", b"\n", b"\r", b"\r\n\r\n", b" ", b"\t", b"\x00", b"\x0b", b"\x0c", b"\x7f", b"\x80", b"\xff", b",", b";", b":", b'"',
    b"\\", b"/", b"?", b"#", b"%", b"%2f", b"..", b"@", b"0", b"00", b"-1", b"f", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"http/1.1",
    b"0\r\n\r\n", b"1\r\nZ\r\n", b"ffffffffffffffff", b"GET /smuggled HTTP/1.1\r\nHost: example.com\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\n",
]


METHODS = {b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"TRACE"}
TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]")


def mutant(seed, number):
    """The bytes of a mutant, and the pieces that it is sent in."""
    draw = random.Random(f"{seed} {number}")
    data = draw.choice(GOOD)
    for _ in range(draw.choice([0, 1, 1, 1, 2, 2, 3, 5])):
        data = mutated(draw, data)
    cuts = sorted(draw.randrange(len(data) + 1) for _ in range(draw.choice([0, 0, 1, 2])))
    return data, [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)]) if a < b]


def mutated(draw, data):
    at = draw.randrange(len(data) + 1)
    end = min(len(data), at + draw.choice([1, 1, 2, 4, 16]))
    lines = data.split(b"\r\n")
    line = draw.randrange(len(lines))
    match draw.randrange(12):
        case 0:
            return data[:at] + draw.choice(PIECES) + data[at:]
        case 1:
            return data[:at] + data[end:]
        case 2:
            return data[:at] + data[at:end] * 2 + data[end:]
        case 3:
            return data[:at] + draw.choice(PIECES) + data[end:]
        case 4 if at < len(data):
            return data[:at] + bytes([data[at] ^ 1 << draw.randrange(8)]) + data[at + 1:]
        case 5:
            lines.insert(draw.randrange(1, len(lines) + 1), lines[line])
        case 6:
            other = draw.randrange(len(lines))
            lines[line], lines[other] = lines[other], lines[line]
        case 7:
            return data.replace(b"\r\n", draw.choice([b"\n", b"\r", b"\r\r\n", b" \r\n"]), draw.choice([1, 2, -1]))
        case 8:
            return data[:at] + draw.choice(GOOD)[draw.randrange(60):]
        case 9:
            digits = [found.span() for found in re.finditer(rb"\d+", data)]
            if digits:
                a, b = draw.choice(digits)
                return data[:a] + str(draw.choice([0, 1, 2, 5, 10, 12, 100, 2**31, 2**63, 2**64])).encode() + data[b:]
        case _:
            lines.insert(min(draw.randrange(1, 8), len(lines)), draw.choice(LINES))
    return b"\r\n".join(lines)


class Stream:
    """Bytes that came by one connection to the backend, as llhttp reads them: one after the other, so that it is known where
    a request begins. llhttp knows some methods only; those that it does not know are read as GET."""

    def __init__(self):
        self.bytes = bytearray()
        self.requests = []
        self.complete = 0
        self.error = None
        # What has come of a request's first word; None behind it.
        self.word = b""
        self.parser = httptools.HttpRequestParser(self)

    def feed(self, data):
        self.bytes += data
        for byte in data:
            if self.error:
                return
            self.take(bytes([byte]))

    def take(self, byte):
        if self.word is not None:
            self.word += byte
            if TOKEN.fullmatch(byte):
                return
            self.method, byte = self.word[:-1], self.word
            if self.method and self.method not in METHODS:
                byte = b"GET" + self.word[-1:]
            self.word = None
        try:
            self.parser.feed_data(byte)
        except httptools.HttpParserUpgrade:
            # The backend does not switch: what comes next is a request.
            self.parser = httptools.HttpRequestParser(self)
        except httptools.HttpParserError as error:
            self.error = repr(error.__context__ or error)

    def on_url(self, url):
        if len(self.requests) == self.complete:
            self.requests.append({"method": self.method, "target": b"", "headers": [], "body": b""})
        self.requests[-1]["target"] += url

    def on_header(self, name, value):
        self.requests[-1]["headers"].append((name.lower(), value.strip(b" \t")))

    def on_body(self, body):
        self.requests[-1]["body"] += body

    def on_message_complete(self):
        self.complete += 1
        self.word = b""


def read_by_h11(data):
    """The requests in some bytes by h11, and why it stopped before their end."""
    requests = []
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    connection.receive_data(data)
    connection.receive_data(b"")
    with contextlib.suppress(StopIteration):
        while True:
            try:
                event = connection.next_event()
            except h11.RemoteProtocolError as error:
                return requests, str(error)
            if isinstance(event, h11.Request):
                request = {"method": event.method, "target": event.target, "body": b""}
                requests.append(request | {"headers": [tuple(map(bytes, header)) for header in event.headers]})
            elif isinstance(event, h11.Data):
                requests[-1]["body"] += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                connection.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
                connection.send(h11.EndOfMessage())
                if connection.our_state is h11.MUST_CLOSE or connection.their_state is h11.MUST_CLOSE:
                    return requests, None if not connection.trailing_data[0] else "bytes behind the last request"
                connection.start_next_cycle()
            elif event is h11.PAUSED:
                # It waits for a word on an upgrade that was asked for, and gets one above.
                return requests, "paused"
            elif event is h11.NEED_DATA or isinstance(event, h11.ConnectionClosed):
                return requests, None
    return requests, None


class Probe:
    def __init__(self, seed, count):
        self.seed, self.count = seed, count
        self.streams = []
        self.statuses = {}
        self.problems = []
        self.unanswered = 0

    async def backend(self, reader, writer):
        """Answers each request that llhttp finds, and keeps the connection."""
        stream = Stream()
        self.streams.append(stream)
        answered = 0
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                stream.feed(data)
                while answered < stream.complete:
                    head = stream.requests[answered]["method"] == b"HEAD"
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n" + (b"" if head else b"ok"))
                    answered += 1
                if stream.error:
                    break
                await writer.drain()
        writer.close()

    async def client(self, gateway, number):
        data, pieces = mutant(self.seed, number)
        # An address of its own tells in the access log whose request it was.
        source = f"127.1.{number >> 8 & 255}.{number & 255}"
        answer = b""
        writer = None
        try:
            async with asyncio.timeout(PATIENCE):
                reader, writer = await asyncio.open_connection(*gateway, local_addr=(source, 0))
                for piece in pieces:
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0)
                writer.write_eof()
                while part := await reader.read(65536):
                    answer += part
        except TimeoutError:
            self.problems.append(f"mutant {number}: no end within {PATIENCE} s: {data!r}")
        except OSError:
            # The gateway closes the connection of a request that it refuses.
            pass
        finally:
            if writer:
                writer.close()
        status = re.match(rb"HTTP/1\.[01] (\d{3})", answer)
        status = status[1].decode() if status else "none"
        self.statuses[status] = self.statuses.get(status, 0) + 1

    def check(self, logged):
        """Compares what reached the backend, as all three read it."""
        reached = 0
        seen = set()
        for stream in self.streams:
            by_llhttp = stream.requests
            by_h11, error = read_by_h11(bytes(stream.bytes))
            # The client of a request may leave in the middle of its body.
            unfinished = len(by_llhttp) - stream.complete
            if stream.error or error and not (unfinished and "without sending complete message body" in error):
                self.problems.append(f"llhttp says {stream.error}, h11 says {error}: {bytes(stream.bytes)[-700:]!r}")
                continue
            if len(by_h11) != len(by_llhttp):
                self.problems.append(f"{len(by_llhttp)} requests for llhttp, {len(by_h11)} for h11: {bytes(stream.bytes)!r}")
                continue
            for ours, theirs in zip(by_llhttp, by_h11):
                reached += 1
                self.compare(ours, theirs, logged, seen)
        return reached

    def compare(self, one, other, logged, seen):
        problem = lambda what: self.problems.append(f"{what}: {one} and {other}")
        for part in ("method", "target", "body"):
            if one[part] != other[part]:
                return problem(f"another {part}")
        if sorted(one["headers"]) != sorted(other["headers"]):
            return problem("other headers")
        named = lambda name: [value for found, value in one["headers"] if found == name]
        ids = named(b"x-request-id")
        if len(ids) != 1 or ids[0] in seen:
            return problem("a request that the gateway did not send, or sent twice")
        seen.add(ids[0])
        line = logged.get(ids[0].decode())
        if not line:
            return problem("a request that the gateway does not know")
        # The log has the characters encoded that stand in no URI, and no host where none was named.
        path = one["target"].split(b"?")[0].decode("utf-8", "backslashreplace")
        path = re.sub('[<>"`]', lambda found: f"%{ord(found[0]):02X}", path)
        host = (named(b"host") or [b""])[0].decode("latin-1")
        # One of HTTP/1.0 that names none goes on under the backend's address, and an empty one is an empty one.
        host = "" if not line.get("host") and host == line["backend"] else host
        read = (one["method"].decode(), path, host)
        told = (line["method"], line["path"], line.get("host", ""))
        if read != told:
            return problem(f"read as {read}, logged as {told}")
        # A client that leaves in the middle of a body has no more to be compared.
        if line["status"] == 200 and line["bytes_in"] != len(one["body"]):
            return problem(f"a body of {len(one['body'])} bytes, logged as {line['bytes_in']}")
        if len(named(b"x-forwarded-for")) != 1 or len(named(b"host")) != 1:
            return problem("a header of the gateway's own is not there once")


async def run(binary, seed, count):
    probe = Probe(seed, count)
    began = time.monotonic()
    server = await asyncio.start_server(probe.backend, "127.0.0.1", 0, limit=1 << 20)
    backend = server.sockets[0].getsockname()
    with tempfile.TemporaryDirectory(prefix="longhaul-probe-") as folder:
        config = os.path.join(folder, "longhaul.yaml")
        with open(config, "w", encoding="utf-8") as file:
            file.write(
                "version: 1\nthreads: 1\nlisteners: [{ address: 127.0.0.1:0 }]\n"
                f"access_log: {{ to: {folder}/access.log, format: json }}\nroutes: [{{ upstream: u }}]\n"
                f"upstreams: {{ u: {{ backends: ['127.0.0.1:{backend[1]}'], health: off }} }}\n"
            )
        log = open(os.path.join(folder, "log"), "w+b")
        gateway = await asyncio.create_subprocess_exec(
            binary, "-c", config, stdout=asyncio.subprocess.DEVNULL, stderr=log, env=os.environ | {"RUNTIME_DIRECTORY": folder}
        )
        try:
            address = await listening(gateway, log.name)
            numbers = iter(range(count))

            async def some():
                for number in numbers:
                    await probe.client(address, number)

            await asyncio.gather(*(some() for _ in range(TOGETHER)))
            gateway.send_signal(signal.SIGTERM)
            await asyncio.wait_for(gateway.wait(), PATIENCE)
        finally:
            if gateway.returncode is None:
                gateway.kill()
                await gateway.wait()
        with open(os.path.join(folder, "access.log"), encoding="utf-8") as lines:
            logged = {line["request_id"]: line for line in map(json.loads, lines) if "request_id" in line}
        log.seek(0)
        if gateway.returncode != 0 or b"panicked" in log.read():
            probe.problems.append(f"the gateway ended with {gateway.returncode}, or panicked")
    server.close()
    reached = probe.check(logged)
    statuses = ", ".join(f"{status} {n}" for status, n in sorted(probe.statuses.items()))
    print(f"probe: {count} mutants in {time.monotonic() - began:.0f} s; answers: {statuses}; {reached} requests reached the backend")
    for problem in probe.problems[:20]:
        print(f"probe: {problem}", file=sys.stderr)
    if probe.problems:
        sys.exit(f"probe: {len(probe.problems)} problems; again with: tests/probe/run.sh {binary} {seed} {count}")
    # A probe of which nothing passed, or everything did, has shown nothing.
    if not count // 10 < reached < 2 * count or probe.statuses.get("400", 0) < count // 20:
        sys.exit("probe: the mutants are too wild or too tame")


async def listening(gateway, log):
    for _ in range(PATIENCE * 50):
        with open(log, "rb") as said:
            found = re.search(rb"listening on ([0-9.]+):(\d+)\n", said.read())
        if found:
            return found[1].decode(), int(found[2])
        if gateway.returncode is not None:
            break
        await asyncio.sleep(0.02)
    with open(log, encoding="utf-8") as said:
        sys.exit(f"probe: the gateway does not listen: {said.read()}")


def main():
    binary = sys.argv[1]
    seed = sys.argv[2] if len(sys.argv) > 2 else str(random.randrange(1 << 32))
    count = int(sys.argv[3]) if len(sys.argv) > 3 else 2000
    print(f"probe: seed {seed}, {count} mutants; again with: tests/probe/run.sh {binary} {seed} {count}", flush=True)
    asyncio.run(run(binary, seed, count))


main()
