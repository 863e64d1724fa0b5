"""Groups of scopes that suffice for a route, and those that must not, however alike they look."""

from __future__ import annotations

from guarded_server import BATCH, DELAYED, OTHER_TAG, OTHER_TASK, RUN, TAG, TASK, WAIT_TOKEN

Scopes = tuple[str, ...]


def ones(*scopes: str) -> tuple[Scopes, ...]:
    return tuple((scope,) for scope in scopes)


def beside(action: str, kind: str, identity: str) -> tuple[Scopes, ...]:
    """Scopes that look like `action:kind:identity` and are not it."""
    return ones(
        f"{action}:{kind}:{identity}x",
        f"{action}:{kind}:{identity[:-1]}",
        f"{action}:{kind}:{identity}:x",
        f"{action}:{kind}:{identity.upper()}",
        f"{action}:{kind}:{identity} ",
        f"{action}:{kind}:",
        f"{action}:{kind}::{identity}",
        f"{action}:{kind}:*",
        f"{action}:{kind}:%",
        f"{action}:{kind[:-1]}:{identity}",
        f"{action}:{kind.upper()}",
        f"{action.upper()}:{kind}:{identity}",
        f" {action}:{kind}",
        f"{action}::{identity}",
        f"{action}:",
        f"{action}",
        f":{kind}:{identity}",
        f"admin:{kind}:{identity}",
        f"{action} {kind}",
        f"nothing:{kind}:{identity}",
        f"nothing:{kind}",
    )


NOTHING: tuple[Scopes, ...] = (
    (),
    *ones("", ":", "::", "*", "all", "admin:", "admin::", "Admin", "*:*", "*:", "read", "shapes"),
    ("read:shapes", "read:all:shapes:", "*:shapes"),
)

OF_RUN = (
    f"runs:{RUN}",
    "runs",
    f"tasks:{TASK}",
    "tasks",
    f"tags:{TAG}",
    f"tags:{OTHER_TAG}",
    "tags",
    f"batch:{BATCH}",
    "batch",
    "all",
)
READS_RUN = (*ones(*(f"read:{one}" for one in OF_RUN), f"*:runs:{RUN}", "*:all", "admin"),)
READS_NO_RUN = (
    *beside("read", "runs", RUN),
    *beside("read", "tags", TAG),
    *beside("read", "batch", BATCH),
    *beside("read", "tasks", TASK),
    *ones(
        *(f"{action}:{one}" for action in ("write", "trigger") for one in OF_RUN),
        f"read:runs:{DELAYED}",
        "read:tags:user",
        f"read:tags:{TAG},{OTHER_TAG}",
        f"read:inputStreams:{RUN}",
        f"read:waitpoints:{RUN}",
        "read:sessions",
    ),
    (f"write:runs:{RUN}", f"trigger:tasks:{TASK}", "read:waitpoints", "read:tags:other"),
)

LIST_DENIED = (
    *beside("read", "tags", TAG),
    *ones(
        f"read:runs:{RUN}",
        f"read:tasks:{TASK}",
        "read:tasks",
        f"read:batch:{BATCH}",
        "read:batch",
        f"write:tags:{TAG}",
        "write:all",
    ),
    *NOTHING,
)
BATCH_GRANTED = ones(f"read:batch:{BATCH}", "read:batch", "read:runs", "read:all", "*:all", "admin")
BATCH_DENIED = (
    *beside("read", "batch", BATCH),
    *ones(
        f"read:runs:{RUN}",
        f"read:tags:{TAG}",
        "read:tags",
        "read:tasks",
        f"write:batch:{BATCH}",
        f"batchTrigger:batch:{BATCH}",
    ),
    *NOTHING,
)
CANCEL_GRANTED = ones(
    f"write:runs:{RUN}",
    "write:runs",
    f"write:tasks:{TASK}",
    "write:tasks",
    "write:all",
    "*:all",
    "admin",
)
CANCEL_DENIED = (
    *beside("write", "runs", RUN),
    *ones(
        f"read:runs:{RUN}",
        f"trigger:tasks:{TASK}",
        f"write:tags:{TAG}",
        f"write:batch:{BATCH}",
        f"write:runs:{DELAYED}",
        f"write:inputStreams:{RUN}",
    ),
    *NOTHING,
)
TRIGGER_DENIED = (
    *beside("trigger", "tasks", TASK),
    *ones(
        f"trigger:tasks:{OTHER_TASK}",
        "trigger:tasks:my",
        "trigger:tasks:my%2Ftask",
        f"batchTrigger:tasks:{TASK}",
        f"write:tasks:{TASK}",
        f"read:tasks:{TASK}",
        "trigger:runs",
        "read:all",
    ),
    *NOTHING,
)
BATCHES_GRANTED = (
    (f"batchTrigger:tasks:{TASK}", f"batchTrigger:tasks:{OTHER_TASK}"),
    *ones("batchTrigger:tasks", "batchTrigger:batch", "batchTrigger:all", "*:all", "admin"),
)
BATCHES_DENIED = (
    *beside("batchTrigger", "tasks", TASK),
    *ones(
        f"batchTrigger:tasks:{TASK}",
        f"batchTrigger:tasks:{OTHER_TASK}",
        f"batchTrigger:tasks:{TASK},{OTHER_TASK}",
        f"batchTrigger:batch:{BATCH}",
        "write:batch",
        "trigger:tasks",
    ),
    (f"trigger:tasks:{TASK}", f"trigger:tasks:{OTHER_TASK}"),
    *NOTHING,
)
ITEMS_GRANTED = ones(
    f"write:batch:{BATCH}",
    "write:batch",
    "write:all",
    f"batchTrigger:tasks:{TASK}",
    "batchTrigger:tasks",
    "batchTrigger:all",
    "*:all",
    "admin",
)
ITEMS_DENIED = (
    *beside("write", "batch", BATCH),
    *beside("batchTrigger", "tasks", TASK),
    *ones(
        f"read:batch:{BATCH}",
        f"batchTrigger:batch:{BATCH}",
        f"batchTrigger:tasks:{OTHER_TASK}",
        f"trigger:tasks:{TASK}",
    ),
    *NOTHING,
)
COMPLETE_DENIED = (
    *beside("write", "waitpoints", WAIT_TOKEN),
    *ones(f"read:waitpoints:{WAIT_TOKEN}", f"write:runs:{WAIT_TOKEN}", "write:runs"),
    *NOTHING,
)
