"""The numbers of all processes of one supervisor, in one shared file without a name.

The supervisor opens it and its children inherit it. Each process has a region: a description of its
metrics in JSON, and one double per series. So counting is a memory access, nothing has to be asked for
or sent, and what was counted survives a process that is started again. Every series is there from the
start: however long nobody looks, nothing grows.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from bisect import bisect_left
from collections.abc import Sequence
from struct import Struct
from typing import Literal, NamedTuple

import orjson

VARIABLE = "PGTIDE_METRICS_FD"

REGIONS = 66
"""The engine's, those of as many nodes as there may be with numbers of their own (64), and that of a
node's successor, which runs beside it for a while."""

_DESCRIPTION_BYTES = 24 << 10
_SERIES = 1024
_UNSHOWN = 256
_REGION_BYTES = _DESCRIPTION_BYTES + 8 * (_SERIES + _UNSHOWN)
_LENGTH = Struct("=I")

Kind = Literal["counter", "gauge", "histogram"]
Merge = Literal["sum", "max"]


class Metric(NamedTuple):
    """One metric of a process.

    `values` are those of its only label, `label`. A histogram's `bounds` are its buckets' upper bounds.
    `merge` says what one number of all processes means; counters and histograms are always summed.
    """

    name: str
    kind: Kind
    help: str
    label: str = ""
    values: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()
    merge: Merge = "sum"

    @property
    def size(self) -> int:
        """How many doubles it takes: a histogram has its buckets, the one above them, and the sum."""
        return len(self.bounds) + 2 if self.kind == "histogram" else max(1, len(self.values))


class Counted(NamedTuple):
    """A metric as some process keeps it, with its doubles."""

    metric: Metric
    doubles: tuple[float, ...]


class Numbers:
    """The shared file, in any of the processes."""

    def __init__(self, descriptor: int | None = None) -> None:
        """Without a descriptor a new one."""
        if descriptor is None:
            with tempfile.TemporaryFile() as file:
                descriptor = os.dup(file.fileno())
            os.ftruncate(descriptor, _REGION_BYTES * REGIONS)
        self._descriptor = descriptor
        self._memory = mmap.mmap(descriptor, _REGION_BYTES * REGIONS)

    @classmethod
    def inherited(cls) -> Numbers:
        """Those of the supervisor, or some of its own in a process that was started by hand."""
        descriptor = os.environ.get(VARIABLE)
        if not descriptor:
            return cls()
        os.set_inheritable(int(descriptor), False)
        return cls(int(descriptor))

    def fileno(self) -> int:
        return self._descriptor

    def region(self, number: int, metrics: Sequence[Metric]) -> Region:
        """The region of a process (0 is the engine, nodes count from 1), ready to be counted in.

        If it was used for the same metrics before, its counters go on; gauges begin at 0.
        """
        description = orjson.dumps([metric._asdict() for metric in metrics])
        if (
            len(description) > _DESCRIPTION_BYTES - _LENGTH.size
            or sum(metric.size for metric in metrics) > _SERIES
        ):
            raise ValueError("too many metrics for one process")
        if number >= REGIONS:
            # Counted, but shown nowhere.
            return Region(memoryview(bytearray(8 * _SERIES)).cast("d"), metrics)
        start = _REGION_BYTES * number
        doubles = self._doubles(number)
        same = self._description(number) == description
        if not same:
            self._memory[start : start + _LENGTH.size] = bytes(_LENGTH.size)
        at = 0
        for metric in metrics:
            if not same or metric.kind == "gauge":
                for one in range(at, at + metric.size):
                    doubles[one] = 0.0
            at += metric.size
        begin = start + _LENGTH.size
        self._memory[begin : begin + len(description)] = description
        self._memory[start:begin] = _LENGTH.pack(len(description))
        return Region(doubles, metrics)

    def peer(self, number: int, metrics: Sequence[Metric]) -> Region:
        """The region of another process that counts the same metrics, to read from."""
        if number >= REGIONS:
            return Region(memoryview(bytearray(8 * _SERIES)).cast("d"), metrics)
        return Region(self._doubles(number), metrics)

    def unshown(self, number: int) -> memoryview[float]:
        """Numbers of a process that are not metrics, for those who agree on what they mean."""
        if number >= REGIONS:
            return memoryview(bytearray(8 * _UNSHOWN)).cast("d")
        start = _REGION_BYTES * number + _DESCRIPTION_BYTES + 8 * _SERIES
        return memoryview(self._memory)[start : start + 8 * _UNSHOWN].cast("d")

    def forget(self, number: int) -> None:
        """A process has ended for good: its gauges are over, what it counted stays."""
        if number >= REGIONS:
            return
        doubles = self._doubles(number)
        at = 0
        for metric, _ in self.read(number):
            if metric.kind == "gauge":
                doubles[at : at + metric.size] = memoryview(bytearray(8 * metric.size)).cast("d")
            at += metric.size
        self.unshown(number)[:] = memoryview(bytearray(8 * _UNSHOWN)).cast("d")

    def read(self, number: int) -> list[Counted]:
        """What the process with this number has counted; empty if there is none."""
        description = self._description(number)
        if not description:
            return []
        counted: list[Counted] = []
        doubles = self._doubles(number)
        at = 0
        for fields in orjson.loads(description):
            fields |= {"values": tuple(fields["values"]), "bounds": tuple(fields["bounds"])}
            metric = Metric(**fields)
            counted.append(Counted(metric, tuple(doubles[at : at + metric.size])))
            at += metric.size
        return counted

    def _doubles(self, number: int) -> memoryview[float]:
        start = _REGION_BYTES * number + _DESCRIPTION_BYTES
        return memoryview(self._memory)[start : start + 8 * _SERIES].cast("d")

    def _description(self, number: int) -> bytes:
        start = _REGION_BYTES * number
        (length,) = _LENGTH.unpack_from(self._memory, start)
        begin = start + _LENGTH.size
        return bytes(self._memory[begin : begin + min(length, _DESCRIPTION_BYTES)])


class Region:
    """What one process counts. Only this process writes here."""

    def __init__(self, doubles: memoryview[float], metrics: Sequence[Metric]) -> None:
        self._doubles = doubles
        self._places: dict[str, tuple[int, Metric]] = {}
        at = 0
        for metric in metrics:
            self._places[metric.name] = at, metric
            at += metric.size

    def number(self, name: str, value: str = "") -> Number:
        """A counter or gauge; `value` is that of its label."""
        at, metric = self._places[name]
        return Number(self._doubles, at + (metric.values.index(value) if value else 0))

    def histogram(self, name: str) -> Histogram:
        at, metric = self._places[name]
        return Histogram(self._doubles, at, metric.bounds)


class Number:
    """A counter or a gauge."""

    __slots__ = ("_at", "_doubles")

    def __init__(self, doubles: memoryview[float], at: int) -> None:
        self._doubles = doubles
        self._at = at

    @property
    def value(self) -> float:
        return self._doubles[self._at]

    def add(self, amount: float = 1.0) -> None:
        self._doubles[self._at] += amount

    def set(self, value: float) -> None:
        self._doubles[self._at] = value


class Histogram:
    """Counts observations by size."""

    __slots__ = ("_at", "_bounds", "_doubles")

    def __init__(self, doubles: memoryview[float], at: int, bounds: tuple[float, ...]) -> None:
        self._doubles = doubles
        self._at = at
        self._bounds = bounds

    def observe(self, value: float) -> None:
        self._doubles[self._at + bisect_left(self._bounds, value)] += 1.0
        self._doubles[self._at + len(self._bounds) + 1] += value
