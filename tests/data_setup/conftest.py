"""A real HTTP server on this machine that can cut connections, send damaged bytes, and ignore or honour ranges."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO

import pytest
from rich.console import Console


@dataclass
class Site:
    """What the server hands out and how it misbehaves.

    Attributes:
        address: of the server.
        files: content by path.
        ranges: whether it honours Range.
        mark: its ETag; None for none.
        cuts: for each coming request after how many bytes the connection is cut; empty: never.
        damaged: how many of the coming answers have a byte changed.
        statuses: for each coming request an HTTP status to answer instead.
        asked: (path, Range header) of every request.
        sent: bytes of bodies sent in all.
    """

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    mark: str | None = '"v1"'
    cuts: list[int] = field(default_factory=list)
    damaged: int = 0
    statuses: list[int] = field(default_factory=list)
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    sent: int = 0

    def url(self, name: str) -> str:
        return f"{self.address}/{name}"


@pytest.fixture
def site() -> Iterator[Site]:
    served = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            served.asked.append((self.path, wanted))
            content = served.files.get(self.path.lstrip("/"))
            if served.statuses or content is None:
                self.send_error(served.statuses.pop(0) if served.statuses else 404)
                return
            first, status = 0, 200
            if wanted and served.ranges and self.headers.get("If-Range") in (None, served.mark):
                first, status = int(wanted.removeprefix("bytes=").rstrip("-")), 206
                if first >= len(content):
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{len(content)}")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
            body = content[first:]
            if served.damaged:
                served.damaged -= 1
                body = body[:-1] + bytes([body[-1] ^ 1])
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            if served.mark:
                self.send_header("ETag", served.mark)
            if status == 206:
                self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
            self.end_headers()
            body = body[: served.cuts.pop(0)] if served.cuts else body
            served.sent += len(body)  # before the client can have it all and look
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield served
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def console() -> Console:
    """What it was told: ``console.file.getvalue()``."""
    return Console(file=StringIO(), width=400)
