"""The groups of methods: `runs`, `metadata`, `streams`, `wait`, `auth`."""

from __future__ import annotations

from pgtide.aio.face import Face, awaited, iterated
from pgtide.aio.metadata import Metadata, Progress
from pgtide.aio.streams import Streams
from pgtide.protocol import run_calls, run_following, token_calls, wait_calls
from pgtide.protocol.run_following import Identity

__all__ = ["Auth", "Metadata", "Runs", "Streams", "Wait"]


class Runs(Face):
    """Starting, following and looking at runs."""

    subscribe = iterated(run_following.subscribe)
    follow = iterated(run_following.follow)
    trigger = awaited(run_calls.trigger)
    batch_trigger = awaited(run_calls.batch_trigger)
    retrieve = awaited(run_calls.retrieve)
    retrieve_batch = awaited(run_calls.retrieve_batch)
    list = awaited(run_calls.list_runs)
    poll = awaited(run_calls.poll)
    cancel = awaited(run_calls.cancel)
    add_tags = awaited(run_calls.add_tags)

    def current(self, run: Identity) -> Progress:
        """The block in which `metadata.set` and the like concern this run; as `metadata.of`."""
        return Progress(self._driver, run)


class Wait(Face):
    """Tokens that somebody waits for and somebody else completes."""

    create_token = awaited(wait_calls.create_token)
    complete_token = awaited(wait_calls.complete_token)
    retrieve_token = awaited(wait_calls.retrieve_token)
    for_token = awaited(wait_calls.for_token)


class Auth(Face):
    """Tokens for browsers."""

    create_public_token = awaited(token_calls.create_public_token)
    create_trigger_token = awaited(token_calls.create_trigger_token)
