"""Expressions of jsonb, arrays, enums, dates and times evaluated here and by Postgres.

PGTIDE_SEED repeats a run (each prints how), PGTIDE_ORACLE_SECONDS says how long to look.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from random import Random
from types import ModuleType

import psycopg
import pytest
import where_arrays
import where_json
import where_times
from where_forms import Forms, merged
from where_oracle import BATCH, deadline_of, make_oracle

from shapes.catalog.zones import load_zone
from shapes.where import Zone, learn_zone

ROWS = 30
KINDS = {"json": where_json, "arrays": where_arrays, "times": where_times}
TYPES_SQL = """
create type mood as enum ('ok', 'happy');
alter type mood add value 'sad' before 'ok';
create domain small as integer;
create domain temper as mood;
"""


def create_table(columns: str) -> str:
    return f"{TYPES_SQL} create table everything (id integer primary key, b boolean, {columns})"


def random_row(random: Random, pools: Mapping[str, Sequence[str]]) -> list[str | None]:
    texts = [random.choice(("true", "false")), *map(random.choice, pools.values())]
    return [None if random.random() < 0.12 else text for text in texts]


async def learn_zones(database: str) -> None:
    async with await psycopg.AsyncConnection.connect(database) as connection:
        for name in where_times.ZONES:
            zone = await load_zone(connection, name)
            assert isinstance(zone, Zone), zone
            learn_zone(name, zone)


@pytest.mark.timeout(0)
@pytest.mark.parametrize("kind", KINDS)
async def test_agrees_with_postgres(seed: str, database: str, kind: str) -> None:
    module: ModuleType = KINDS[kind]
    random, deadline = Random(seed), deadline_of(0.3)
    tables = (merged(module.FORMS), merged(module.COLUMNS), merged(module.CONSTANTS))
    forms = Forms(random, *tables)
    # Intervals have no text here, which would depend on a setting.
    types = [one for one in tables[0] if one != "interval"]
    if kind == "times":
        await learn_zones(database)
    with await make_oracle(database, create_table(module.COLUMNS_SQL)) as oracle:
        while time.monotonic() < deadline or not oracle.tally.compared:
            oracle.fill(random_row(random, module.POOLS) for _ in range(ROWS))
            for _ in range(5):
                depths = random.choices((1, 1, 2, 3), k=BATCH)
                oracle.expressions([forms.make(random.choice(types), depth) for depth in depths])
                oracle.conditions([(forms.make("bool", depth), {}) for depth in depths])
    print(kind, oracle.tally)
    assert oracle.tally.compared > oracle.tally.refused
