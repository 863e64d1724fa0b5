"""A worker that is woken by webhooks."""

from __future__ import annotations

import base64
import json
import queue
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

PATIENCE = 60.0


class Woken(NamedTuple):
    """A request that came, verified."""

    at: float
    body: dict[str, Any]

    @property
    def tails(self) -> dict[str, str]:
        return {one["path"]: one["tail_offset"] for one in self.body["streams"]}


class Receiver:
    """`answer` gives status and body for each request; anything may be put in its place."""

    def __init__(self, url: str, jwks_url: str) -> None:
        self.url = url
        self.answer: Callable[[dict[str, Any]], tuple[int, Any]] = lambda _: (200, {"done": True})
        self.came: queue.Queue[Woken] = queue.Queue()
        answer = httpx.get(jwks_url)
        assert answer.headers["content-type"] == "application/jwk-set+json"
        assert answer.headers["cache-control"] == "public, max-age=300"
        self._keys = {key["kid"]: key for key in answer.json()["keys"]}

    def next(self) -> Woken:
        return self.came.get(timeout=PATIENCE)

    def quiet(self, seconds: float = 0.3) -> bool:
        """Whether nothing comes for a while."""
        try:
            self.came.get(timeout=seconds)
        except queue.Empty:
            return True
        return False

    def verify(self, signature: str, body: bytes) -> None:
        """With the public keys as they were in the beginning, whatever has been restarted since. Raises
        what tells that it is no signature of the server's."""
        said = dict(part.split("=", 1) for part in signature.split(","))
        assert abs(time.time() - int(said["t"])) < 60
        key = self._keys[said["kid"]]
        Ed25519PublicKey.from_public_bytes(_decoded(key["x"])).verify(
            _decoded(said["ed25519"]), said["t"].encode() + b"." + body
        )


def _decoded(text: str) -> bytes:
    assert "=" not in text
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@contextmanager
def receiving(jwks_url: str) -> Generator[Receiver]:
    """A receiver on 127.0.0.1. Fails in the end if one of its requests was not signed."""
    wrong: list[Exception] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            try:
                receiver.verify(self.headers["webhook-signature"], body)
            except Exception as error:
                wrong.append(error)
            told = json.loads(body)
            receiver.came.put(Woken(time.monotonic(), told))
            status, answer = receiver.answer(told)
            text = json.dumps(answer).encode()
            try:
                self.send_response(status)
                self.send_header("content-length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)
            except OSError:
                # Whoever asked has been killed.
                self.close_connection = True

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Quietly."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver = Receiver(f"http://127.0.0.1:{server.server_port}/hook", jwks_url)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert not wrong, wrong[0]
