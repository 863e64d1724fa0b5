"""What health says, and why requests are not served yet: from the engine's stage. Pure."""

from __future__ import annotations

from engine.errors import PgtideError
from engine.processes.board import Stage


class NotReadyError(PgtideError):
    """Nothing can be served that needs changes to come in; the message has the reason."""

    code = "not_ready"


_HEALTH_CODES = {"active": 200, "waiting": 202, "starting": 202}

_LOCK = "Timeout waiting for Postgres lock acquisition"
_CLIENT = (
    "Timeout waiting for replication client to be ready. Check that you don't have pending "
    "transactions in the database. Postgres makes a replication slot only once all transactions "
    "that were open before have ended"
)
_REASONS = {
    Stage.GONE: "Timeout waiting for stack restart: the engine is not running",
    Stage.CONNECTING: f"{_LOCK}: there is no connection to Postgres; the engine's log says why",
    Stage.WAITING: f"{_LOCK}: another pgtide with the same stream id holds it",
    Stage.PREPARING: f"{_CLIENT}: publication and slot are being checked",
    Stage.SLOT: f"{_CLIENT}: the slot is being made; the engine's log names what it waits for",
    Stage.STREAMING: "Timeout waiting for shape data to be loaded",
    Stage.RESTING: "Timeout waiting for Postgres lock acquisition: waking up after an idle time",
}


def health(stage: Stage, *, has_log: bool, follows: bool) -> tuple[int, dict[str, str]]:
    """Status code and body of /v1/health.

    `has_log`: the node serves shapes; `follows`: it has heard lately that changes come in, from
    whichever engine writes its log.
    """
    if stage is Stage.WAITING:
        status = "waiting"
    elif has_log and (stage is Stage.RESTING or (follows and stage in _SILENT)):
        status = "active"
    else:
        status = "starting"
    return _HEALTH_CODES[status], {"status": status}


# A node without a supervisor does not know its engine's stage.
_SILENT = (Stage.STREAMING, Stage.GONE)


def reason(stage: Stage) -> str:
    """The first condition of serving that is not met."""
    return _REASONS[stage]
