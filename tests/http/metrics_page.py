"""The metrics of a server, read as Prometheus reads them."""

from __future__ import annotations

import re

import httpx
from prometheus_client.parser import text_string_to_metric_families
from serving import Serving

_PORT = re.compile(r"metrics are served  port=(\d+)")


def metrics_url(server: Serving) -> str:
    """Where its metrics are."""
    found = _PORT.findall(server.log)
    return f"http://127.0.0.1:{found[-1]}/metrics"


def scrape(server: Serving) -> dict[str, float]:
    """Value by name, with labels as in `name{label="value"}`."""
    answer = httpx.get(metrics_url(server), timeout=20)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    values: dict[str, float] = {}
    for family in text_string_to_metric_families(answer.text):
        assert family.documentation
        for sample in family.samples:
            labels = ",".join(f'{label}="{value}"' for label, value in sample.labels.items())
            # This parser, unlike Prometheus, gives every counter the suffix that OpenMetrics wants.
            name = sample.name if f"\n{sample.name}" in answer.text else family.name
            key = f"{name}{{{labels}}}" if labels else name
            assert key not in values
            values[key] = sample.value
    return values


def admitted(server: Serving) -> tuple[float, float]:
    """How many requests are being served: initial and existing."""
    values = scrape(server)
    name = "electric_admission_control_acquire_current"
    return values[f'{name}{{kind="initial"}}'], values[f'{name}{{kind="existing"}}']
