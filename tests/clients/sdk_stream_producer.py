"""A producer that may be killed at any moment and started again: numbers, as lines of text, to a stream
of a run. Arguments: run, key, how many. The server is the one that the environment names."""

from __future__ import annotations

import sys
import time

from pgtide.sync import streams


def main(run: str, key: str, count: int) -> None:
    with streams.writer(run, key, producer="worker-1", close=True) as out:
        for number in range(out.position, count):
            out.write(f"line {number}, größer 🌊\n")
            time.sleep(0.001)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
