"""`python -m bench`: all benchmarks, by default in a short form, one after the other.

Prints what was measured against what is aimed at; the JSON of each is in bench/results/.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

import orjson

from bench.report import RESULTS

BENCHMARKS = (
    "wal_throughput",
    "node_cpu",
    "routing",
    "overlap",
    "latency",
    "fanout",
    "stalled",
    "cache",
    "snapshot",
    "memory",
    "runs",
    "run_updates",
    "streams",
    "sustained",
)
SHORT = 0.1
"""About two minutes in all."""


def main() -> int:
    parser = argparse.ArgumentParser("python -m bench", description=__doc__)
    parser.add_argument("benchmarks", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument(
        "--scale", type=float, default=SHORT, help=f"size of everything; 1 is full [{SHORT}]"
    )
    options = parser.parse_args()
    unknown = set(options.benchmarks) - set(BENCHMARKS)
    if unknown:
        parser.error(f"no benchmark {', '.join(sorted(unknown))}")
    failed = 0
    for name in options.benchmarks or BENCHMARKS:
        command = [sys.executable, "-m", f"bench.{name}", "--scale", str(options.scale)]
        print(f"\n{name}", flush=True)
        if subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode == 0:
            _show(name)
        else:
            failed += 1
            print("  FAILED, see above")
    if options.scale < 1:
        print("\nThis was a short run: what counts is --scale 1 on an idle machine.")
    return 1 if failed else 0


def _show(name: str) -> None:
    report = orjson.loads((RESULTS / f"{name}.json").read_bytes())
    for aim in report["aims"]:
        mark = "met" if aim["met"] else "MISSED"
        print(
            f"  {aim['what']}: {aim['measured']:g} {aim['unit']} "
            f"({aim['direction']} {aim['limit']:g}: {mark})"
        )
    if report["noisy"]:
        share = report["others_share_of_cpu"]
        print(f"  others used {share:.0%} of the machine meanwhile: look at ratios and CPU only")


if __name__ == "__main__":
    sys.exit(main())
