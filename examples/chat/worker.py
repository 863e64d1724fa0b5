"""A worker that answers: takes runs of the task `chat`, and streams an answer's words as it makes them.

DATABASE_URL=postgresql://… TRIGGER_API_URL=http://… TRIGGER_SECRET_KEY=… python examples/chat/worker.py
"""

import asyncio
import json
import os
import signal
from typing import Any

import psycopg
from speech import answer

import pgtide

# The oldest run that waits, or one whose worker has said nothing for a while: it was killed, and what
# it has streamed is there. Locked rows are another worker's.
TAKE = """
update pgtide.runs set status = 'EXECUTING', attempt_number = attempt_number + 1 where id = (
    select id from pgtide.runs
    where completed_at is null and task = 'chat' and (status = 'QUEUED'
        or status = 'EXECUTING' and updated_at < now() - %s * interval '1 second')
    order by created_at limit 1 for update skip locked
) returning id,
    -- The SDK sends the payload together with a note of its types.
    case payload_type when 'application/super+json' then payload::json -> 'json' ->> 'prompt'
        when 'application/json' then payload::json ->> 'prompt' else payload end"""
END = """update pgtide.runs set status = %s, output = %s, error = %s
    where id = %s and status = 'EXECUTING'"""
AT_ONCE = 16
WORD_SECONDS = float(os.environ.get("WORD_SECONDS", "0.06"))
SILENT_SECONDS = float(os.environ.get("SILENT_SECONDS", "15"))

words_of = pgtide.streams.define("answer", str)


async def respond(run: str, prompt: str) -> dict[str, Any]:
    """Stream an answer; what it was, for the run's output.

    The name of the producer makes it go on where another worker was that was killed; the answer is the
    same for the same run. When somebody presses Stop, or cancels the run, the block ends.
    """
    words = answer(prompt, seed=run)
    async with (
        pgtide.metadata.of(run, interval=0.25) as progress,
        words_of.writer(run, producer="worker") as out,
    ):
        for number in range(out.position, len(words)):
            progress.set("words", number)
            progress.set("progress", number / len(words))
            await asyncio.sleep(WORD_SECONDS)
            await out.write(words[number])
    if out.stopped is None:
        await pgtide.metadata.replace(run, {"words": len(words), "progress": 1})
    return {"words": out.position, "stopped": out.stopped is not None}


async def carry_out(database: psycopg.AsyncConnection, run: str, prompt: str | None) -> None:
    try:
        output = await respond(run, prompt or "")
    except (psycopg.OperationalError, pgtide.ConnectionLostError, pgtide.ServerError) as error:
        print(f"{run} waits for another attempt: {error}", flush=True)
    except pgtide.ProducerReplacedError:
        print(f"{run} goes on elsewhere", flush=True)
    except Exception as error:
        failure = {"type": "BUILT_IN_ERROR", "name": type(error).__name__, "message": str(error)}
        await database.execute(END, ("FAILED", None, json.dumps(failure), run))
    else:
        await database.execute(END, ("COMPLETED", json.dumps(output), None, run))


async def work(stopping: asyncio.Event) -> None:
    url = os.environ["DATABASE_URL"]
    async with (
        await psycopg.AsyncConnection.connect(url, autocommit=True) as database,
        asyncio.TaskGroup() as tasks,
    ):
        at_work: set[asyncio.Task[None]] = set()
        while not stopping.is_set():
            run = None
            if len(at_work) < AT_ONCE:
                run = await (await database.execute(TAKE, (SILENT_SECONDS,))).fetchone()
            if run is None:
                await asyncio.sleep(0.2)
                continue
            task = tasks.create_task(carry_out(database, *run))
            at_work.add(task)
            task.add_done_callback(at_work.discard)
        for task in at_work:  # Another worker goes on with them.
            task.cancel()


async def main() -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    while not stopping.is_set():
        try:
            await work(stopping)
        except* (psycopg.OperationalError, psycopg.errors.UndefinedTable) as errors:
            print(f"trying again: {errors.exceptions[0]}", flush=True)
            await asyncio.sleep(1)


if __name__ == "__main__":
    asyncio.run(main())
