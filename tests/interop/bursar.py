"""Bursar as an operator and a user meet it: the executable, its environment, its HTTP API through a plain client.

Nothing here knows how Bursar works inside; a refusal or a process that ends early is an error with its own words.
"""

import json
import os
import pathlib
import subprocess
import threading
import time
import urllib.error
import urllib.request
import uuid
from typing import Any

START_DEADLINE_S = 60
STOP_DEADLINE_S = 45
# Not from the outside world: a variable of whoever runs the tests must not change what is tested.
OURS = ("DATABASE_URL", "REDIS_URL", "PORT", "RUST_LOG", "OPENAI_API_KEY", "OPENAI_BASE_URL")


class Refused(Exception):
    """The API said no."""

    def __init__(self, status: int, body: Any) -> None:
        super().__init__(f"{status}: {json.dumps(body)}")
        self.status = status
        self.body = body


class Api:
    """A plain HTTP client with a key."""

    def __init__(self, base: str, key: str) -> None:
        self.base = base
        self.key = key

    def get(self, path: str, **headers: str) -> Any:
        return self._send("GET", path, None, headers)

    def put(self, path: str, body: Any) -> Any:
        return self._send("PUT", path, body, {})

    def post(self, path: str, body: Any, **headers: str) -> Any:
        return self._send("POST", path, body, headers | {"Idempotency-Key": str(uuid.uuid4())})

    def all(self, path: str) -> list[Any]:
        """Every row of a list, page by page; small pages, so that the cursor works for its living."""
        rows, cursor = [], ""
        while True:
            page = self.get(f"{path}?limit=5{cursor}")
            rows.extend(page["data"])
            if not page["has_more"]:
                return rows
            cursor = f"&cursor={page['next_cursor']}"

    def _send(self, method: str, path: str, body: Any, headers: dict[str, str]) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base + path, data, method=method)
        request.add_header("Authorization", f"Bearer {self.key}")
        if data is not None:
            request.add_header("Content-Type", "application/json")
        for name, value in headers.items():
            request.add_header(name, value)
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return json.load(response)
        except urllib.error.HTTPError as refusal:
            raise Refused(refusal.code, json.loads(refusal.read() or b"null")) from None


class Bursar:
    """A `bursar server --with-workers` on storage of its own."""

    def __init__(self, program: pathlib.Path, folder: pathlib.Path, environment: dict[str, str]) -> None:
        self.program = program
        self.log = folder / "bursar.log"
        inherited = {n: v for n, v in os.environ.items() if n not in OURS and not n.startswith("BURSAR_")}
        self.environment = inherited | {"BURSAR_BIND": "127.0.0.1", "BURSAR_SIMULATED": "false"} | environment
        self.process: subprocess.Popen[bytes] | None = None
        self.base = ""

    def command(self, *arguments: str) -> str:
        """Runs a command to its end and answers with what it printed."""
        done = subprocess.run(
            [self.program, *arguments], env=self.environment, capture_output=True, text=True, timeout=120
        )
        if done.returncode != 0:
            raise AssertionError(f"bursar {' '.join(arguments)} exited {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout

    def start(self) -> None:
        """Starts the server on a port that the system chooses, and waits until it says it is ready."""
        address: list[str] = []
        served = threading.Event()
        self.process = subprocess.Popen(
            [self.program, "server", "--with-workers", "--port", "0"], env=self.environment, stderr=subprocess.PIPE
        )

        def follow(lines: Any) -> None:
            with lines, self.log.open("wb") as log:
                for line in lines:
                    log.write(line)
                    log.flush()
                    if not address and (found := serving_at(line)):
                        address.append(found)
                        served.set()
            served.set()

        threading.Thread(target=follow, args=(self.process.stderr,), daemon=True).start()
        if not served.wait(START_DEADLINE_S) or not address:
            self.process.kill()
            raise AssertionError(f"bursar server did not start:\n{self.said()}")
        self.base = f"http://{address[0]}"
        self._wait_until_ready()

    def said(self) -> str:
        """The end of its log, without the lines about requests."""
        lines = [line for line in self.log.read_text().splitlines() if '"message":"request"' not in line]
        return "\n".join(lines)[-4000:]

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_DEADLINE_S
        while True:
            try:
                with urllib.request.urlopen(f"{self.base}/readyz", timeout=5) as response:
                    ready = json.load(response)
            except OSError as error:
                ready = {"status": str(error)}
            # `degraded` would be without the queue: then the test would not be about what it says
            if ready["status"] == "ok":
                return
            if time.monotonic() > deadline:
                raise AssertionError(f"bursar is not ready: {ready}\n{self.said()}")
            time.sleep(0.1)

    def stop(self) -> int | None:
        """Asks it to stop and answers with its exit code; None when there was nothing to stop."""
        if self.process is None:
            return None
        self.process.terminate()
        try:
            return self.process.wait(STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"bursar did not stop within {STOP_DEADLINE_S} s") from None
        finally:
            self.process = None


def serving_at(line: bytes) -> str | None:
    """The address in the log line that says the server serves."""
    try:
        fields = json.loads(line).get("fields", {})
    except ValueError:
        return None
    return fields.get("address") if fields.get("message") == "serving" else None
