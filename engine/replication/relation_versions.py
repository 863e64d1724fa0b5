"""Relations as the stream describes them to relations as the log keeps them. Pure."""

from __future__ import annotations

from engine import pgoutput
from engine.log.layout import RelationColumn, RelationVersion


def version_of(message: pgoutput.Relation, number: int) -> RelationVersion:
    """What a relation is now; whose partition it is the message does not tell."""
    return RelationVersion(
        number,
        message.oid,
        message.schema,
        message.name,
        message.replica_identity,
        tuple(
            RelationColumn(column.name, column.type_oid, column.modifier, column.is_key)
            for column in message.columns
        ),
    )
