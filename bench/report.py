"""What a benchmark has found: results, how they compare with the aims, on which machine."""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import orjson
import psutil

from bench.processes import Bystanders

RESULTS = Path(__file__).parent / "results"

NOISY_SHARE = 0.1
"""Above this share of the machine used by others a run calls itself noisy."""


@dataclass(frozen=True, slots=True)
class Aim:
    """A figure to reach."""

    what: str
    measured: float
    unit: str
    direction: Literal["at most", "at least"]
    limit: float

    @property
    def met(self) -> bool:
        if self.direction == "at most":
            return self.measured <= self.limit
        return self.measured >= self.limit


class Report:
    """Collects what one benchmark finds."""

    def __init__(self, benchmark: str, options: Mapping[str, Any]) -> None:
        self.results: dict[str, Any] = {}
        self._benchmark = benchmark
        self._options = dict(options)
        self._aims: list[Aim] = []
        self._postgres = ""
        self._began = time.monotonic()
        self._bystanders = Bystanders()

    def postgres(self, version: str) -> None:
        self._postgres = version

    def at_most(self, what: str, measured: float, unit: str, limit: float) -> None:
        self._aims.append(Aim(what, round(measured, 4), unit, "at most", limit))

    def at_least(self, what: str, measured: float, unit: str, limit: float) -> None:
        self._aims.append(Aim(what, round(measured, 4), unit, "at least", limit))

    def note(self, text: str) -> None:
        """Tell whoever watches how far it is."""
        print(f"{self._benchmark}: {text}", file=sys.stderr, flush=True)

    def finish(self) -> dict[str, Any]:
        share = self._bystanders.share()
        return {
            "benchmark": self._benchmark,
            "machine": _machine() | {"postgres": self._postgres},
            "options": self._options,
            "seconds": round(time.monotonic() - self._began, 1),
            "others_share_of_cpu": round(share, 3),
            "noisy": share > NOISY_SHARE,
            "aims": [asdict(aim) | {"met": aim.met} for aim in self._aims],
            "results": self.results,
        }


Measure = Callable[[Report, argparse.Namespace], None]


def command(
    name: str,
    description: str | None,
    sizes: Mapping[str, tuple[int | float, int | float, str]],
    measure: Measure,
    arguments: Sequence[str] | None = None,
) -> None:
    """The command line of a benchmark: JSON goes to stdout and to bench/results/.

    `sizes` maps an option to its default, the least that makes sense, and what it means. `--scale`
    multiplies all of them but `rounds`.
    """
    parser = argparse.ArgumentParser(f"python -m bench.{name}", description=description)
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies all sizes [1.0]")
    for option, (default, least, text) in sizes.items():
        parser.add_argument(
            f"--{option.replace('_', '-')}", type=type(default), help=f"{text} [{default}]"
        )
        del least
    options = parser.parse_args(arguments)
    for option, (default, least, _) in sizes.items():
        if getattr(options, option) is None:
            factor = 1.0 if option == "rounds" else options.scale
            setattr(options, option, type(default)(max(least, default * factor)))
    report = Report(name, vars(options))
    measure(report, options)
    text = orjson.dumps(report.finish(), option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_bytes(text + b"\n")
    print(text.decode())


def median(values: Sequence[float]) -> float:
    return round(statistics.median(values), 4)


def percentile(ordered: Sequence[float], share: float) -> float:
    """Of values in ascending order; 0 if there are none."""
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else 0.0


def milliseconds(nanoseconds: Sequence[int]) -> dict[str, float]:
    """Median, 99th percentile and most of some durations."""
    ordered = sorted(nanoseconds)
    return {
        "p50_ms": round(percentile(ordered, 0.5) / 1e6, 3),
        "p99_ms": round(percentile(ordered, 0.99) / 1e6, 3),
        "max_ms": round(percentile(ordered, 1.0) / 1e6, 3),
        "count": len(ordered),
    }


def _machine() -> dict[str, Any]:
    return {
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": platform.system(),
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "python": platform.python_version(),
    }
