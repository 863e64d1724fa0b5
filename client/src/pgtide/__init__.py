"""pgtide: background runs and any Postgres table, live.

    import asyncio, pgtide

    async def main() -> None:
        async for run in pgtide.runs.subscribe("run_…"):
            print(run.status, run.metadata)

    asyncio.run(main())

The same names without `async` are in `pgtide.sync`.
"""

from pgtide.aio.client import Client
from pgtide.aio.default import close
from pgtide.aio.shapes import Shape, ShapeStream
from pgtide.configuration import configure

__all__ = ["Client", "Shape", "ShapeStream", "close", "configure"]
