"""The same names as in `pgtide`, for programs without asyncio: nothing is awaited, calls block.

from pgtide.sync import runs

for run in runs.subscribe("run_…"):
    print(run.status, run.metadata)
"""

from pgtide.configuration import configure
from pgtide.sync.client import Client
from pgtide.sync.default import close, default_driver
from pgtide.sync.driver import Subscription
from pgtide.sync.durable import Stream
from pgtide.sync.groups import Auth, Metadata, Runs, Streams, Wait
from pgtide.sync.metadata import Progress
from pgtide.sync.shapes import Shape, ShapeStream
from pgtide.sync.streams import DefinedStream
from pgtide.sync.writing import Pipe, Writer

runs = Runs(default_driver)
metadata = Metadata(default_driver)
streams = Streams(default_driver)
wait = Wait(default_driver)
auth = Auth(default_driver)

__all__ = [
    "Client",
    "DefinedStream",
    "Pipe",
    "Progress",
    "Shape",
    "ShapeStream",
    "Stream",
    "Subscription",
    "Writer",
    "auth",
    "close",
    "configure",
    "metadata",
    "runs",
    "streams",
    "wait",
]
