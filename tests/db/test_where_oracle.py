"""Where clauses evaluated here and by Postgres: any difference is a bug.

PGTIDE_SEED repeats a run (each prints how), PGTIDE_ORACLE_SECONDS says how long to look.
"""

from __future__ import annotations

import time
from random import Random

import pytest
import where_forms
from where_expressions import CREATE_TABLE, POOLS, Clauses, mutated, random_row
from where_forms import Forms, chain, merged
from where_oracle import BATCH, connect, deadline_of, literal, make_oracle

from shapes.where.semantics.types import INT4, TEXT, TYPES, array_of

ROWS = 50
FORMS = merged(where_forms.FORMS)
COLUMNS = merged(where_forms.COLUMNS)
CONSTANTS = merged(where_forms.CONSTANTS)


@pytest.mark.timeout(0)
async def test_agrees_with_postgres(seed: str, database: str) -> None:
    random, deadline = Random(seed), deadline_of(0.3)
    with await make_oracle(database, CREATE_TABLE) as oracle:
        clauses = Clauses(random)
        while time.monotonic() < deadline or not oracle.tally.compared:
            oracle.fill(random_row(random) for _ in range(ROWS))
            for _ in range(5):
                oracle.conditions([(clauses.make(), clauses.params) for _ in range(BATCH)])
    print(oracle.tally)
    assert oracle.tally.compared > 2 * oracle.tally.refused


@pytest.mark.timeout(0)
async def test_expressions_have_the_values_that_postgres_gives_them(
    seed: str, database: str
) -> None:
    random, deadline = Random(seed), deadline_of(0.4)
    forms = Forms(random, FORMS, COLUMNS, CONSTANTS)
    types = list(FORMS)
    with await make_oracle(database, CREATE_TABLE) as oracle:
        while time.monotonic() < deadline or not oracle.tally.compared:
            oracle.fill(random_row(random) for _ in range(ROWS))
            for _ in range(5):
                depths = random.choices((1, 1, 2, 3), k=BATCH)
                oracle.expressions([forms.make(random.choice(types), depth) for depth in depths])
                oracle.conditions([(forms.make("bool", depth), {}) for depth in depths])
    print(oracle.tally)
    assert oracle.tally.compared > oracle.tally.refused


@pytest.mark.timeout(0)
async def test_reads_what_postgres_reads(seed: str, database: str) -> None:
    """Precedence, associativity, and what is a syntax error."""
    random, deadline = Random(seed), deadline_of(0.2)
    with await make_oracle(database, CREATE_TABLE) as oracle:
        oracle.fill(random_row(random) for _ in range(10))
        while time.monotonic() < deadline or not oracle.tally.compared:
            oracle.grammar([chain(random) for _ in range(100)])
    print(oracle.tally)


@pytest.mark.timeout(0)
async def test_constants_mean_what_they_mean_to_postgres(seed: str, database: str) -> None:
    """A text that is accepted as a constant is one to Postgres, and of the same value."""
    random, deadline = Random(seed), deadline_of(0.1)
    kinds = {**TYPES, "text[]": array_of(TEXT), "int4[]": array_of(INT4)}
    kinds = {name: type_ for name, type_ in kinds.items() if name in POOLS}
    accepted = refused = 0
    with connect(database) as connection:
        if connection.info.server_version < 160_000:
            pytest.skip("older servers know fewer forms of integers")
        while time.monotonic() < deadline or not accepted:
            type_ = random.choice(list(kinds))
            text = mutated(random, type_)
            try:
                value = kinds[type_].read(text)
            except ValueError:
                refused += 1
                continue
            accepted += 1
            written = kinds[type_].write(value)
            query = f"select {literal(text)}::{type_} = {literal(written)}::{type_}"
            result = connection.pgconn.exec_(query.encode())
            assert result.get_value(0, 0) == b"t", f"{query}: {result.error_message.decode()}"
    print(f"{accepted} accepted, {refused} refused")
    assert accepted > refused / 4
