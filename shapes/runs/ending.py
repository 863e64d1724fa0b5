"""Telling from a run's messages that it is over. Pure."""

from __future__ import annotations

from collections.abc import Sequence

_COMPLETION = b'"completedAt":'
_DELETION = b'"operation":"delete"'


def is_over(messages: Sequence[bytes]) -> bool:
    """Whether the run that all of the messages are about is over, or gone, after the last of them.

    Only a field of a message can be spelled like this: within a text its quotes have backslashes.
    """
    for message in reversed(messages):
        if _DELETION in message:
            return True
        at = message.rfind(_COMPLETION)
        if at >= 0:
            return message.startswith(b'"', at + len(_COMPLETION))
    return False
