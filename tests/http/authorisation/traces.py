"""Where a server leaves traces of what it was told."""

from __future__ import annotations

import urllib.request

import psutil
from guarded_server import Guarded, pieces_of
from metrics_page import metrics_url


def traces_of(guarded: Guarded) -> list[str]:
    """The log's lines, the metrics and the processes' titles that have pieces of secrets."""
    secret = guarded.pieces()
    texts = [*guarded.serving.log.splitlines(), metrics_text(guarded), *titles(guarded)]
    return [text[:500] for text in texts if pieces_of(text) & secret]


def metrics_text(guarded: Guarded) -> str:
    with urllib.request.urlopen(metrics_url(guarded.serving), timeout=10) as answer:
        return answer.read().decode()


def titles(guarded: Guarded) -> list[str]:
    """What `ps` shows of all of the server's processes."""
    supervisor = psutil.Process(guarded.serving.pid)
    family = [supervisor, *supervisor.children(recursive=True)]
    return [" ".join((process.name(), *process.cmdline())) for process in family]
