"""A worker: carries out the runs that wait in pgtide.runs. Any number of them may run at once.

DATABASE_URL=postgresql://… python examples/worker.py
"""

import json
import os
import signal
import time
import traceback
from collections.abc import Callable
from typing import Any

import psycopg

# The oldest run that waits, or whose delay is over. Locked rows are another worker's.
TAKE = """
update pgtide.runs set status = 'EXECUTING', attempt_number = attempt_number + 1 where id = (
    select id from pgtide.runs
    where completed_at is null and task = any(%s)
        and (status = 'QUEUED' or status = 'DELAYED' and delay_until <= now())
    order by created_at limit 1 for update skip locked
) returning id, task,
    -- The SDK sends the payload together with a note of its types.
    case payload_type when 'application/super+json' then (payload::json -> 'json')::text
        when 'text/plain' then to_json(payload)::text else payload end"""
NOTE = """update pgtide.runs set metadata = metadata || %s::jsonb
    where id = %s and status = 'EXECUTING'"""
END = """update pgtide.runs set status = %s, output = %s, error = %s
    where id = %s and status = 'EXECUTING'"""
stopping: list[int] = []


class GivenUp(Exception):
    """Somebody has cancelled the run, or this worker has to stop."""


def render_video(payload: dict[str, Any] | None, note: Callable[..., None]) -> Any:
    """A task: `note` shows followers how far it is. What is returned is the output."""
    seconds = float((payload or {}).get("seconds", 8))
    for second in (tick / 4 for tick in range(int(seconds * 4))):
        note(progress=second / seconds, step=f"rendering second {int(second) + 1} of {seconds:g}")
        time.sleep(0.25)
    note(progress=1, step="done")
    return {"frames": int(25 * seconds)}


TASKS = {"render-video": render_video}


def carry_out(database: psycopg.Connection, run_id: str, task: str, text: str | None) -> None:
    def note(**metadata: object) -> None:
        if stopping or not database.execute(NOTE, (json.dumps(metadata), run_id)).rowcount:
            raise GivenUp

    try:
        output = json.dumps(TASKS[task](json.loads(text or "null"), note))
    except GivenUp:  # Back into the queue, if it has not been cancelled.
        database.execute(END, ("QUEUED", None, None, run_id))
    except psycopg.OperationalError:
        raise  # Postgres is away, which is not the task's fault.
    except Exception as error:
        failure = {"type": "BUILT_IN_ERROR", "name": type(error).__name__, "message": str(error)}
        failure["stackTrace"] = traceback.format_exc()
        database.execute(END, ("FAILED", None, json.dumps(failure), run_id))
    else:
        database.execute(END, ("COMPLETED", output, None, run_id))


def main() -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: stopping.append(number))
    while not stopping:
        try:
            with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as database:
                while not stopping:
                    database.execute("select pgtide.expire_runs()")
                    run = database.execute(TAKE, (list(TASKS),)).fetchone()
                    if run is None:
                        time.sleep(0.5)
                    else:
                        carry_out(database, *run)
        except (psycopg.OperationalError, psycopg.errors.UndefinedTable) as error:
            print(f"trying again: {error}", flush=True)
            time.sleep(1)


if __name__ == "__main__":
    main()
