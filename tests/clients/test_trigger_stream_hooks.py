"""The hooks for streams in a headless Chromium, on a page of another origin."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from browser import Browser
from hook_page import Hooks
from runs_server import RunsServer
from static_page import served

PIPER = Path(__file__).with_name("stream_piper.mjs")
PARTS = 3
WORDS = [
    *("Ünïcödé ", "🐌🐌", "\n\n", "\r\n", '"quoted"', "\\u0000 ", "\u2028", "data: x\n\n", " ", ""),
    *(f"word-{number} " for number in range(290)),
]
TEXT = "".join(WORDS)


class Piper:
    """`streams.pipe` in a process of its own."""

    def __init__(self, node: str, server: RunsServer, run: str, key: str) -> None:
        arguments = [node, str(PIPER), run, key, json.dumps(WORDS), str(PARTS)]
        self._process = subprocess.Popen(
            arguments, env=os.environ | server.environ, stdin=subprocess.PIPE, text=True
        )

    def go_on(self) -> None:
        """With the next part."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def finish(self) -> None:
        assert self._process.stdin is not None
        assert self._process.wait(40) == 0
        self._process.stdin.close()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture(scope="module")
def hooks_url(node: str, tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    with served(node, "runs_page", tmp_path_factory.mktemp("stream-hooks")) as url:
        yield url


@pytest.fixture
def hooks(
    browser: Browser, runs_server: RunsServer, runs_db: psycopg.Connection, hooks_url: str
) -> Hooks:
    browser.open(hooks_url)
    browser.until("window.page")
    return Hooks(browser, runs_server, runs_db, hooks_url)


@pytest.fixture
def pipe(node: str, runs_server: RunsServer) -> Generator[Callable[[str, str], Piper]]:
    pipers: list[Piper] = []

    def start(run: str, key: str) -> Piper:
        pipers.append(Piper(node, runs_server, run, key))
        return pipers[-1]

    yield start
    for piper in pipers:
        piper.kill()


def append(hooks: Hooks, path: str, *messages: object) -> None:
    for message in messages:
        hooks.sql("select pgtide.append(%s, %s::jsonb)", path, json.dumps(message))


def parts_until(hooks: Hooks, count: int, name: str = "one") -> list[Any]:
    hooks.until(f"state('{name}').parts?.length >= {count}")
    return hooks.state(name)["parts"]


def stop_nodes(server: RunsServer) -> None:
    """As for a deploy; others take their places."""
    before = server.serving.node_pids()
    for pid in before:
        os.kill(pid, signal.SIGTERM)
    server.serving.until(
        lambda: (
            len(now := server.serving.node_pids()) >= len(before) and not set(now) & set(before)
        ),
        "does not start nodes again",
    )


@pytest.mark.parametrize("resumed", [True, False], ids=["from lastEventId", "from the start"])
def test_what_is_piped_is_read_whole_though_the_page_is_loaded_again(
    hooks: Hooks, pipe: Callable[[str, str], Piper], resumed: bool
) -> None:
    run = hooks.run()
    token = hooks.token(f"read:runs:{run}")
    kept: list[str] = []
    piper = pipe(run, "ai")
    for piped in (100, 200):
        options = {"lastEventId": len(kept) - 1} if kept else {}
        hooks.show(one=hooks.hook("useRealtimeStream", run, "ai", token=token, **options))
        parts = parts_until(hooks, piped - len(kept))
        if resumed:
            kept += parts
        # More comes while the page is away.
        piper.go_on()
        hooks.browser.reload()
        hooks.browser.until("window.page")
    options = {"lastEventId": len(kept) - 1} if kept else {}
    hooks.show(one=hooks.hook("useRealtimeStream", run, "ai", token=token, **options))
    kept += parts_until(hooks, len(WORDS) - len(kept))
    piper.finish()
    assert "".join(kept).encode() == TEXT.encode()
    assert hooks.state()["lastEventId"] == str(len(WORDS) - 1)
    assert hooks.browser.close() == []


def test_nodes_that_stop_end_no_stream(hooks: Hooks, runs_server: RunsServer) -> None:
    """Nor one that nobody has written to yet."""
    run = hooks.run()
    token = hooks.token(f"read:runs:{run}")
    hooks.show(
        one=hooks.hook("useRealtimeStream", run, "ai", token=token),
        later=hooks.hook("useRealtimeStream", run, "later", token=token),
    )
    append(hooks, f"runs/{run}/ai", "before")
    parts_until(hooks, 1)
    stop_nodes(runs_server)
    append(hooks, f"runs/{run}/ai", "after")
    append(hooks, f"runs/{run}/later", "after all")
    assert parts_until(hooks, 2) == ["before", "after"]
    assert parts_until(hooks, 1, "later") == ["after all"]


def test_from_the_latest_on_and_only_so_many(hooks: Hooks) -> None:
    run = hooks.run()
    token = hooks.token(f"read:runs:{run}")
    append(hooks, f"runs/{run}/default", *range(5))
    hooks.show(
        latest=hooks.hook("useRealtimeStream", run, "default", token=token, **{"from": "latest"}),
        few=hooks.hook("useRealtimeStream", run, "default", token=token, maxParts=2),
        late=hooks.hook("useRealtimeStream", run, "default", token=token, startIndex=3),
        none=hooks.hook("useRealtimeStream", run, "default", token="x"),
    )
    hooks.until("state('late').parts?.length === 2 && state('none').error")
    hooks.until("state('latest').parts?.[0] === 4")
    append(hooks, f"runs/{run}/default", {"n": 5})
    hooks.until("state('late').parts.length === 3")
    hooks.until("JSON.stringify(state('few').parts) === '[4,{\"n\":5}]'")
    assert hooks.state("late")["parts"] == [3, 4, {"n": 5}]


def test_a_run_with_its_streams(hooks: Hooks, pipe: Callable[[str, str], Piper]) -> None:
    run = hooks.run()
    token = hooks.token(f"read:runs:{run}")
    hooks.show(one=hooks.hook("useRealtimeRunWithStreams", run, token=token))
    hooks.until("state('one').run?.isQueued")
    piper = pipe(run, "ai")
    hooks.until("state('one').streams?.ai?.length >= 100")
    piper.go_on()
    piper.go_on()
    hooks.until(f"state('one').streams.ai.length === {len(WORDS)}")
    piper.finish()
    assert hooks.ask("POST", f"/realtime/v1/streams/{run}/self/logs/append").status_code == 200
    hooks.until("state('one').streams.logs?.length === 1")
    hooks.finish(run)
    hooks.until("state('one').run.isCompleted && completed('one').length === 1")
    state = hooks.state()
    assert "".join(state["streams"]["ai"]).encode() == TEXT.encode()
    assert state["run"]["realtimeStreams"] == ["ai", "logs"]
    assert hooks.browser.close() == []


def test_something_is_sent_to_a_run(hooks: Hooks) -> None:
    run = hooks.run()
    token = hooks.token(f"write:inputStreams:{run}", f"read:runs:{run}")
    hooks.show(
        send=hooks.hook("useInputStreamSend", "approval", run, token=token),
        seen=hooks.hook("useRealtimeStream", run, "input/approval", token=token),
        denied=hooks.hook("useInputStreamSend", "approval", run, token=hooks.token("read:runs")),
    )
    hooks.until("state('send').isReady && state('seen').parts")
    hooks.browser.run("page.call('send', 'send', {approved: true})")
    assert parts_until(hooks, 1, "seen") == ['{"approved":true}']
    hooks.browser.run("page.call('denied', 'send', 1)")
    hooks.until("state('denied').error?.includes('Unauthorized')")


def test_sessions(hooks: Hooks) -> None:
    session = f"chat {secrets.token_hex(4)}"
    token = hooks.token(f"read:sessions:{session}")
    narrow = hooks.token(f"read:sessions:{session}:channels:screens:out")
    hooks.show(
        out=hooks.hook("useSessionStream", session, token=token),
        screens=hooks.hook(
            "useSessionStreamChannel", "screens", sessionId=session, token=narrow, maxRecords=1
        ),
    )
    hooks.until("state('out').records && state('screens').records")
    done = {"$trigger.headers": [["trigger-control", "turn-complete"]]}
    append(hooks, f"sessions/{session}/out", {"type": "start"}, "text", done)
    append(hooks, f"sessions/{session}/channels/screens/out", "first", "second")
    hooks.until("state('out').records.length === 2 && state('out').lastControl")
    hooks.until("state('screens').records[0] === 'second'")
    state = hooks.state("out")
    assert state["records"] == [{"type": "start"}, "text"]
    assert state["lastControl"]["subtype"] == "turn-complete"
    assert state["lastControl"]["seqNum"] == 2
    assert hooks.browser.close() == []
