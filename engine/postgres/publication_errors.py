"""What keeps a table's changes from arriving complete, each with the statement that mends it."""

from __future__ import annotations

from collections.abc import Sequence

from engine.errors import DatabaseSetupError
from engine.postgres.sql_text import quote_ident, quote_name
from engine.postgres.table import Table
from engine.replication.writers import OpenTransaction


class PublicationError(DatabaseSetupError):
    """Base of what keeps a table's changes from arriving.

    `message` is the sentence for a client, `remedy` the next step for who runs the database.
    """

    code = "publication"

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(f"{message}. {remedy}")
        self.message = message
        self.remedy = remedy


class PublicationNotFoundError(PublicationError):
    """The publication is missing and cannot or must not be created."""

    code = "publication_not_found"

    def __init__(self, publication: str) -> None:
        super().__init__(
            f'Publication "{publication}" not found in the database',
            f"Run: create publication {quote_ident(publication)}",
        )


class ReadOnlyError(PublicationError):
    """Postgres takes no writes: the role's transactions only read, or the server is a standby."""

    code = "read_only"

    def __init__(self, role: str, database: str) -> None:
        super().__init__(
            "Database takes no writes",
            f"Run: alter role {quote_ident(role)} in database {quote_ident(database)} "
            "set default_transaction_read_only = off; or set DATABASE_URL to the primary",
        )


class OperationsNotPublishedError(PublicationError):
    """The publication leaves out inserts, updates, deletes or truncates."""

    code = "operations_not_published"

    def __init__(self, publication: str) -> None:
        super().__init__(
            f'Publication "{publication}" does not publish all required operations: '
            "INSERT, UPDATE, DELETE, TRUNCATE",
            f"Run: alter publication {quote_ident(publication)} "
            "set (publish = 'insert, update, delete, truncate')",
        )


class GeneratedColumnsNotPublishedError(PublicationError):
    """A shape selects a stored generated column, and the publication does not send those."""

    code = "generated_columns_not_published"

    def __init__(self, publication: str) -> None:
        super().__init__(
            f'Publication "{publication}" does not publish generated columns',
            "Leave them out of the columns parameter or, from Postgres 18 on, run: alter "
            f"publication {quote_ident(publication)} set (publish_generated_columns = stored)",
        )


class TableNotPublishedError(PublicationError):
    """The table is not in the publication, and pgtide must not or may not add it."""

    code = "table_not_published"

    def __init__(self, publication: str, table: Table, *, manual: bool) -> None:
        reason = (
            "the PGTIDE_MANUAL_TABLE_PUBLISHING setting prevents pgtide from adding it"
            if manual
            else "pgtide lacks privileges to add it"
        )
        super().__init__(
            f'Database table "{table.schema}.{table.name}" is missing from the publication '
            f'"{publication}" and {reason}',
            f"As the owner of both, run: {publish_statement(publication, table)}",
        )


class TableFilteredError(PublicationError):
    """The publication sends only some of the table's rows or columns."""

    code = "table_filtered"

    def __init__(self, publication: str, table: Table) -> None:
        name = quote_name(table.schema, table.name)
        super().__init__(
            f'Database table "{table.schema}.{table.name}" has a row filter or a column list in '
            f'the publication "{publication}"',
            f"Run: alter publication {quote_ident(publication)} drop table {name}; "
            + publish_statement(publication, table),
        )


class PublishedAsRootError(PublicationError):
    """The publication sends changes of a partition as changes of a table above it."""

    code = "published_as_root"

    def __init__(self, publication: str, table: Table, root: str) -> None:
        super().__init__(
            f'Publication "{publication}" sends changes of database table '
            f'"{table.schema}.{table.name}" as changes of "{root}"',
            f"Follow that table, or run: alter publication {quote_ident(publication)} "
            "set (publish_via_partition_root = false)",
        )


class ReplicaIdentityNotFullError(PublicationError):
    """Updates and deletes of the table do not carry the old row."""

    code = "replica_identity"

    def __init__(self, lacking: Sequence[tuple[str, str]]) -> None:
        first = ".".join(lacking[0])
        statements = (f"alter table {quote_name(*name)} replica identity full" for name in lacking)
        super().__init__(
            f'Database table "{first}" does not have its replica identity set to FULL',
            "As the owner, run: " + "; ".join(statements),
        )


class TableNotReplicatedError(PublicationError):
    """Postgres writes no logical changes for temporary and unlogged tables."""

    code = "table_not_replicated"

    def __init__(self, table: Table) -> None:
        name = quote_name(table.schema, table.name)
        super().__init__(
            f'Database table "{table.schema}.{table.name}" is temporary or unlogged',
            f"If it is unlogged, run: alter table {name} set logged",
        )


class TableGoneError(PublicationError):
    """The table was dropped or renamed since its definition was read."""

    code = "table_gone"

    def __init__(self, table: Table) -> None:
        super().__init__(
            f'Database table "{table.schema}.{table.name}" has been dropped or renamed',
            "Ask for it by its present name",
        )


class TableLockTimeoutError(PublicationError):
    """Other transactions kept the table locked while pgtide wanted to publish it."""

    code = "table_lock_timeout"

    def __init__(self, table: Table, holder: OpenTransaction | None) -> None:
        who = holder or "A transaction that has ended by now"
        super().__init__(
            "Snapshot timed out while waiting for a table lock",
            f'{who} held a lock on "{table.schema}.{table.name}": let it finish and retry',
        )


class WritersInFlightError(PublicationError):
    """Transactions that wrote to the table before it was published have not ended."""

    code = "writers_in_flight"

    def __init__(self, table: Table, holder: OpenTransaction | None) -> None:
        who = holder or "A transaction that has ended by now"
        super().__init__(
            f'Database table "{table.schema}.{table.name}" still has writers from before it was '
            "published",
            f"{who} has to end first: let it finish and retry",
        )


def publish_statement(publication: str, table: Table) -> str:
    """SQL that puts a table into a publication without letting an earlier writer slip through."""
    name = quote_name(table.schema, table.name)
    only = "" if table.kind == "p" else "only "
    return (
        f"begin; lock table {only}{name} in access exclusive mode; "
        f"alter publication {quote_ident(publication)} add table {only}{name}; "
        f"alter table {only}{name} replica identity full; commit"
    )
