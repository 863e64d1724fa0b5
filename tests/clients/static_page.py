"""A page of this folder, bundled and served from an origin of its own."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal

HERE = Path(__file__).parent


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def served(
    node: str, source: str, folder: Path, mode: Literal["production", "development"] = "production"
) -> Generator[str]:
    """Where the page of this name is, without a slash at the end; its files go to `folder`. Only in
    development React's strict mode does everything twice."""
    bundle = [node, str(HERE / "bundle.mjs"), str(HERE / source), str(folder), mode]
    subprocess.run(bundle, check=True)
    handler = partial(_Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
