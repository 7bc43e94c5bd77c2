#!/usr/bin/env python3
"""An MCP server for tests: standard input and output, or streamable HTTP. The standard library alone.

    server.py FOLDER stdio
    server.py FOLDER http [PORT]     prints its port, then serves

In FOLDER it keeps `journal`, a line for each call that it ran, cancelled or began a session for, and reads `note`, which
it appends to the description of `look`. It stands for a server that somebody else wrote: it shares no code with ours.
"""

import json
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

FOLDER = sys.argv[1]
LOCK = threading.Lock()
CANCELLED = {}
NUMBER = {"type": "object", "properties": {"n": {"type": "integer"}}}
TOOLS = ["look", "slow", "big", "huge", "fail", "refuse", "picture", "die", "env", "dotted.name"]


def journal(line):
    with LOCK, open(os.path.join(FOLDER, "journal"), "a", encoding="utf-8") as out:
        out.write(line + "\n")


def note():
    try:
        with open(os.path.join(FOLDER, "note"), encoding="utf-8") as text:
            return text.read()
    except FileNotFoundError:
        return ""


def described(name):
    schema = dict(NUMBER, title=note()) if name == "look" else NUMBER
    return {"name": name, "description": f"Does {name}. {note()}", "inputSchema": schema}


def text(words, **more):
    return {"content": [{"type": "text", "text": words}], **more}


def call(request, name, arguments):
    """The result of a tool, or an error as a pair of code and words."""
    journal(f"{name} {json.dumps(arguments)}")
    if name in ("look", "dotted.name"):
        return text(f"saw {arguments.get('n')}")
    if name == "slow":
        event = CANCELLED.setdefault(request, threading.Event())
        if event.wait(timeout=float(arguments.get("n", 30))):
            journal("cancelled")
        return text("at last")
    if name == "big":
        return text("x" * 100_000)
    if name == "huge":
        return text("x" * 6_000_000)
    if name == "fail":
        return text("there is no such page", isError=True)
    if name == "refuse":
        return (-32602, "n must be even")
    if name == "picture":
        picture = {"type": "image", "data": "aGk=", "mimeType": "image/png"}
        return {"content": [picture], "structuredContent": {"seen": 1}}
    if name == "die":
        os._exit(1)
    if name == "env":
        return text(json.dumps(dict(os.environ), sort_keys=True))
    return (-32602, f"unknown tool {name}")


def answer(message, session=None):
    """The response to a message of a session; None where there is none."""
    method, params = message.get("method"), message.get("params") or {}
    if method == "notifications/cancelled":
        CANCELLED.setdefault((session, params.get("requestId")), threading.Event()).set()
    if "id" not in message or method is None:
        return None
    if method == "initialize":
        journal("session")
        result = {
            "protocolVersion": params["protocolVersion"],
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "test", "version": "1"},
        }
    elif method == "tools/list":
        journal("list")
        # a page of one half each, as servers with many tools do it
        half = len(TOOLS) // 2
        if params.get("cursor") == "rest":
            result = {"tools": [described(name) for name in TOOLS[half:]]}
        else:
            result = {"tools": [described(name) for name in TOOLS[:half]], "nextCursor": "rest"}
    elif method == "tools/call":
        result = call((session, message["id"]), params["name"], params.get("arguments") or {})
    elif method == "ping":
        result = {}
    else:
        result = (-32601, "no such method")
    if isinstance(result, tuple):
        return {"jsonrpc": "2.0", "id": message["id"], "error": {"code": result[0], "message": result[1]}}
    return {"jsonrpc": "2.0", "id": message["id"], "result": result}


def serve_stdio():
    def work(message):
        response = answer(message)
        if response is not None:
            with LOCK:
                sys.stdout.write(json.dumps(response) + "\n")
                sys.stdout.flush()

    for line in sys.stdin:
        threading.Thread(target=work, args=(json.loads(line),), daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    sessions = set()

    def log_message(self, *_):
        pass

    def reply(self, status, body=b"", kind="application/json", session=None):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if session:
            self.send_header("Mcp-Session-Id", session)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.reply(405)

    def do_DELETE(self):
        Handler.sessions.discard(self.headers.get("Mcp-Session-Id"))
        self.reply(200)

    def do_POST(self):
        message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        secret = os.environ.get("MCP_TEST_SECRET")
        if secret and self.headers.get("Authorization") != secret:
            return self.reply(401, b"{}")
        session = self.headers.get("Mcp-Session-Id")
        if message.get("method") == "initialize":
            session = f"s{time.monotonic_ns()}"
            Handler.sessions.add(session)
        elif session not in Handler.sessions:
            return self.reply(404)
        response = answer(message, session)
        if response is None:
            return self.reply(202)
        body = json.dumps(response).encode()
        if message.get("method") == "tools/call":
            # a stream of one event, as servers do that may take their time
            return self.reply(200, b"event: message\ndata: " + body + b"\n\n", "text/event-stream")
        return self.reply(200, body, session=session)


def serve_http(port):
    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    print(server.server_address[1], flush=True)
    server.serve_forever()


if sys.argv[2] == "stdio":
    serve_stdio()
else:
    serve_http(int(sys.argv[3]) if len(sys.argv) > 3 else 0)
