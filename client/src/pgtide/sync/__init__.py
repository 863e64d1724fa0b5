"""The same names as in `pgtide`, for programs without asyncio: nothing is awaited, calls block.

from pgtide.sync import runs

for run in runs.subscribe("run_…"):
    print(run.status, run.metadata)
"""

from pgtide.configuration import configure
from pgtide.sync.client import Client
from pgtide.sync.default import close, default_driver
from pgtide.sync.driver import Subscription
from pgtide.sync.groups import Auth, Metadata, Runs, Wait
from pgtide.sync.metadata import Progress
from pgtide.sync.shapes import Shape, ShapeStream

runs = Runs(default_driver)
metadata = Metadata(default_driver)
wait = Wait(default_driver)
auth = Auth(default_driver)

__all__ = [
    "Client",
    "Progress",
    "Shape",
    "ShapeStream",
    "Subscription",
    "auth",
    "close",
    "configure",
    "metadata",
    "runs",
    "wait",
]
