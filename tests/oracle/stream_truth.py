"""What was committed to streams, whatever became of them: triggers copy it within the transactions."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import psycopg

PREPARE = """
create table rows (n bigint primary key);
create table kept_streams as select * from pgtide.streams limit 0;
create table kept_chunks as select * from pgtide.stream_chunks limit 0;
create function keep() returns trigger language plpgsql as $$
begin
    if tg_argv[0] = 'stream' then
        insert into kept_streams select new.*;
    else
        insert into kept_chunks select new.*;
    end if;
    return null;
end $$;
create trigger keep after insert on pgtide.streams for each row execute function keep('stream');
create trigger keep after insert on pgtide.stream_chunks for each row execute function keep('chunk');
"""

MARK = re.compile(rb"<([a-z]+[0-9]+-[0-9]+) t=([0-9]+)>")
"""Begins every message: its name, and the transaction that it came with (0: with none)."""


@dataclass
class Stream:
    """One that was there, and all of its messages."""

    id: int
    path: str
    content_type: str
    lineage: list[tuple[int, int]]
    fork_position: int
    sub_offset: int
    own: list[bytes] = field(default_factory=list[bytes])
    messages: list[bytes] = field(default_factory=list[bytes])
    """By position, with those of the streams that it was forked from."""

    @property
    def is_json(self) -> bool:
        return self.content_type.startswith("application/json")

    @property
    def written(self) -> list[bytes]:
        """Without what it took over from others."""
        return self.own[self._piece :]

    @property
    def _piece(self) -> int:
        return 0 if not self.sub_offset else self.sub_offset if self.is_json else 1

    def piece(self) -> list[bytes]:
        return self.own[: self._piece]

    def slice(self, start: int, end: int) -> Any:
        """As an answer has it: values of JSON, otherwise bytes."""
        some = self.messages[start:end]
        assert len(some) == end - start, f"{self.path} has {len(self.messages)}, not {end}"
        return [json.loads(one) for one in some] if self.is_json else b"".join(some)


class Truth:
    """Everything of one history: the streams whose paths begin with `prefix`. `faults` are what is
    wrong with the tables by themselves."""

    def __init__(self, database: str, prefix: str) -> None:
        self.faults: list[str] = []
        self.streams: dict[int, Stream] = {}
        with psycopg.connect(database) as connection:
            rows = connection.execute(
                "select id, path, content_type, lineage, fork_position,"
                " coalesce((request->>'sub_offset')::int, 0)"
                " from kept_streams where path like %s order by id",
                (f"%{prefix}%",),
            )
            for number, path, content_type, lineage, *fork in rows.fetchall():
                steps = [(step[0], step[1]) for step in lineage]
                self.streams[number] = Stream(number, path, content_type, steps, *fork)
            chunks = connection.execute(
                "select stream_id, position, messages, data, bytes_upto from kept_chunks"
                " where stream_id = any(%s) order by stream_id, position",
                (list(self.streams),),
            )
            ends: dict[tuple[int, int], int] = {}
            for number, position, count, data, end in chunks.fetchall():
                stream = self.streams[number]
                self._add(stream, position, count, data)
                owner = next((one for one, last in stream.lineage if last == position), number)
                if end != ends.get((owner, position), 0) + len(data):
                    self.faults.append(f"{stream.path}: {end} bytes behind {position}")
                ends[number, position + count] = end
        for stream in self.streams.values():
            for ancestor, upto in stream.lineage:
                own = self.streams[ancestor]
                begin = len(stream.messages) - own.fork_position
                stream.messages += own.own[begin : upto - own.fork_position]
            if len(stream.messages) != stream.fork_position:
                self.faults.append(f"{stream.path}: a fork of {len(stream.messages)} messages")
            stream.messages += stream.own

    def of(self, path: str) -> list[Stream]:
        """All that were there under a path."""
        return [stream for stream in self.streams.values() if stream.path == path]

    def names(self) -> Counter[str]:
        """How often each message was written."""
        found: Counter[str] = Counter()
        for stream in self.streams.values():
            for message in stream.written:
                found.update(name.decode() for name, _ in MARK.findall(message))
        return found

    def _add(self, stream: Stream, position: int, count: int, data: bytes) -> None:
        if position != stream.fork_position + len(stream.own):
            self.faults.append(f"{stream.path}: {position} after {len(stream.own)} messages")
        stream.own += split(data) if stream.is_json else [data]
        if stream.fork_position + len(stream.own) != position + count:
            self.faults.append(f"{stream.path}: a chunk at {position} is not {count} messages")


def split(joined: bytes) -> list[bytes]:
    """The JSON values that commas separate."""
    decoder, text, at = json.JSONDecoder(), joined.decode(), 0
    found: list[bytes] = []
    while True:
        _, end = decoder.raw_decode(text, at)
        found.append(text[at:end].encode())
        rest = text[end:].lstrip()
        if not rest:
            return found
        assert rest.startswith(","), rest[:40]
        at = text.index(",", end) + 1
        at += len(text[at:]) - len(text[at:].lstrip())
