"""A producer that may be killed at any moment: `python stream_producer.py URL WORDS.json NOTE OVER`.

Appends the words of the file to the stream, one per request, numbered: whatever became of the last
request of one that was killed, the one that is started next goes on without a gap or a repetition. In
the file NOTE it writes how many there are. Once there is a file OVER, it closes the stream with the
next word.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import httpx

PRODUCER = {"producer-id": "worker", "producer-epoch": "0"}
TEXT = {"content-type": "text/plain"}
PAUSE_SECONDS = 0.005
"""So that there is time to be killed."""


def main() -> None:
    url, file, note, over = sys.argv[1:]
    words: list[str] = json.loads(Path(file).read_text("utf-8"))
    with httpx.Client(timeout=15) as client:
        head = _until(client, "HEAD", url, {}, b"", (200, 404))
        if head.status_code == 404:
            _until(client, "PUT", url, TEXT, b"", (200, 201))
            head = _until(client, "HEAD", url, {}, b"", (200,))
        if "stream-closed" in head.headers:
            return
        # Offsets count what was appended, which is what the numbers count, too.
        done = int(head.headers["stream-next-offset"].rpartition("_")[2])
        for number in range(done, len(words)):
            last = number == len(words) - 1 or Path(over).exists()
            headers = TEXT | PRODUCER | {"producer-seq": str(number)}
            if last:
                headers["stream-closed"] = "true"
            _until(client, "POST", url, headers, words[number].encode(), (200, 204))
            Path(note).write_text(str(number + 1))
            if last:
                return
            time.sleep(PAUSE_SECONDS)


def _until(
    client: httpx.Client,
    method: str,
    url: str,
    headers: dict[str, str],
    body: bytes,
    good: tuple[int, ...],
) -> httpx.Response:
    """Ask until there is a good answer, while the server is away or cannot reach Postgres."""
    while True:
        try:
            answer = client.request(method, url, headers=headers, content=body)
        except httpx.TransportError:
            time.sleep(0.05)
            continue
        if answer.status_code in good:
            return answer
        if answer.status_code < 500:
            raise SystemExit(f"{method} was answered with {answer.status_code}: {answer.text}")
        time.sleep(0.05)


if __name__ == "__main__":
    main()
