"""Metrics as text, in the format that Prometheus reads (version 0.0.4). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from engine.metrics.numbers import Counted, Kind, Metric

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Family(NamedTuple):
    """Metrics of one name. `samples` are (suffix of the name, labels, value)."""

    name: str
    kind: Kind
    help: str
    samples: list[tuple[str, Mapping[str, str], float]]


def merged(processes: Iterable[Iterable[Counted]]) -> list[Family]:
    """One family per metric, over all processes that count it."""
    metrics: dict[str, Metric] = {}
    totals: dict[str, list[float]] = {}
    for process in processes:
        for metric, doubles in process:
            known = metrics.setdefault(metric.name, metric)
            if known != metric:
                # A process of another version; the newer ones follow.
                continue
            total = totals.setdefault(metric.name, [0.0] * metric.size)
            for at, value in enumerate(doubles):
                total[at] = max(total[at], value) if metric.merge == "max" else total[at] + value
    return [_family(metric, totals[name]) for name, metric in metrics.items()]


def _family(metric: Metric, doubles: list[float]) -> Family:
    samples: list[tuple[str, Mapping[str, str], float]] = []
    if metric.kind == "histogram":
        count = 0.0
        for bound, value in zip((*metric.bounds, None), doubles, strict=False):
            count += value
            edge = "+Inf" if bound is None else repr(float(bound))
            samples.append(("_bucket", {"le": edge}, count))
        samples.append(("_sum", {}, doubles[-1]))
        samples.append(("_count", {}, count))
    elif metric.label:
        for value, double in zip(metric.values, doubles, strict=True):
            samples.append(("", {metric.label: value}, double))
    else:
        samples.append(("", {}, doubles[0]))
    return Family(metric.name, metric.kind, metric.help, samples)


def text_of(families: Iterable[Family]) -> str:
    """All of it as one page."""
    lines: list[str] = []
    for name, kind, text, samples in families:
        escaped = text.replace("\\", "\\\\").replace("\n", "\\n")
        lines += [f"# HELP {name} {escaped}", f"# TYPE {name} {kind}"]
        for suffix, labels, value in samples:
            pairs = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
            lines.append(f"{name}{suffix}{'{' + pairs + '}' if pairs else ''} {_number(value)}")
    return "\n".join([*lines, ""])


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)
