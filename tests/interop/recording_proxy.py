"""A proxy between Bursar and a model server that passes every byte on and keeps what the server reported.

It is the tests' witness: what it recorded is compared with what Bursar recorded. It must not change anything on the
way and must not share code with Bursar.
"""

import http.client
import http.server
import json
import threading
import urllib.parse
from dataclasses import dataclass, field
from typing import Any

# Headers that belong to one connection, not to the message.
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "host"}


@dataclass
class Exchange:
    """One request and what came back, as the model server said it."""

    path: str
    request: dict[str, Any]
    status: int = 0
    frames: int = 0
    text: str = ""
    finish_reason: str | None = None
    # the last usage in the stream; earlier ones are kept to see when there is more than one
    usages: list[dict[str, Any]] = field(default_factory=list)
    complete: bool = False

    def read(self, line: bytes) -> None:
        """Takes one line of the event stream."""
        if not line.startswith(b"data:"):
            return
        data = line.removeprefix(b"data:").strip()
        if data == b"[DONE]":
            self.complete = True
            return
        self.frames += 1
        frame = json.loads(data)
        if frame.get("usage"):
            self.usages.append(frame["usage"])
        for choice in frame.get("choices", []):
            self.text += choice.get("delta", {}).get("content") or ""
            self.finish_reason = choice.get("finish_reason") or self.finish_reason


class RecordingProxy:
    """Listens on a free port of the loopback address until it is closed."""

    def __init__(self, upstream: str) -> None:
        self.upstream = urllib.parse.urlsplit(upstream)
        self._exchanges: list[Exchange] = []
        self._lock = threading.Lock()
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                proxy.pass_on(self)

            def log_message(self, *_: object) -> None:
                """Says nothing: the exchanges are the log."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where it listens, without a path."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def exchanges(self) -> list[Exchange]:
        """What passed so far, oldest first."""
        with self._lock:
            return list(self._exchanges)

    def pass_on(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        """Sends one request on and streams its answer back, line by line as it comes."""
        body = handler.rfile.read(int(handler.headers.get("content-length", 0)))
        exchange = Exchange(handler.path, json.loads(body))
        with self._lock:
            self._exchanges.append(exchange)
        headers = {name: value for name, value in handler.headers.items() if name.lower() not in HOP_BY_HOP}
        connection = http.client.HTTPConnection(self.upstream.hostname, self.upstream.port, timeout=240)
        try:
            connection.request("POST", handler.path, body, headers)
            response = connection.getresponse()
            exchange.status = response.status
            handler.send_response(response.status)
            for name, value in response.getheaders():
                if name.lower() not in HOP_BY_HOP | {"content-length"}:
                    handler.send_header(name, value)
            handler.send_header("Connection", "close")
            handler.end_headers()
            handler.close_connection = True
            for line in response:
                exchange.read(line)
                handler.wfile.write(line)
                handler.wfile.flush()
        finally:
            connection.close()

    def close(self) -> None:
        """Stops listening."""
        self._server.shutdown()
        self._server.server_close()
