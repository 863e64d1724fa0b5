"""What the demo's workers do and when: pure, with a clock and a source of chance from outside.

Times are seconds of any monotonic clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Any

ID_PREFIX = "run_demo_"
BATCH_PREFIX = "batch_demo_"

CONCURRENCY = 8
BATCH_SIZE = 6
BATCH_EVERY = 25.0
RUN_EVERY = (1.0, 3.0)
STEP_SECONDS = (0.8, 2.4)
REPORT_EVERY = (0.25, 0.6)
FAILURES = 0.1


@dataclass(frozen=True, slots=True)
class Task:
    """A kind of work: what it is fed, what comes of it, and how it goes wrong."""

    name: str
    unit: str
    payload: str
    error: str


TASKS = (
    Task("transcribe-audio", "words", "inbox/interview-{}.wav", "The audio ends after 12 seconds."),
    Task("resize-images", "images", "uploads/album-{}", "photo-17.heic is not an image."),
    Task("export-orders", "orders", "reports/orders-{}.csv", "The disk of the report is full."),
    Task("summarise-report", "tokens", "reports/{}.pdf", "The model did not answer in 30 seconds."),
    Task("index-documents", "documents", "archive/box-{}", "The search index refused the schema."),
)
CUSTOMERS = ("customer:ada", "customer:grace", "customer:edsger")
OTHER_TAGS = ("region:eu", "region:us", "priority:high")


@dataclass(frozen=True, slots=True)
class Created:
    """A run that begins its life, queued."""

    id: str
    task: str
    tags: list[str]
    batch_id: str | None
    payload: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Started:
    """A run that a worker took up."""

    id: str
    label: str


@dataclass(frozen=True, slots=True)
class Progressed:
    """`progress` is a fraction from 0 to 1."""

    id: str
    progress: float
    label: str


@dataclass(frozen=True, slots=True)
class Completed:
    id: str
    label: str
    output: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Failed:
    id: str
    error: str


Event = Created | Started | Progressed | Completed | Failed


@dataclass(slots=True)
class _Run:
    id: str
    task: Task
    steps: int
    fails_at: float
    """Fraction at which it fails; above 1 for never."""
    seconds: float
    started: float = 0.0
    reports: float = 0.0
    """When it says next how far it is."""


@dataclass(slots=True)
class Workload:
    """A queue of runs and the workers that take them from it."""

    chance: Random
    next_run: float = 0.0
    next_batch: float = 0.0
    _number: int = 0
    _queued: list[_Run] = field(default_factory=list[_Run])
    _executing: list[_Run] = field(default_factory=list[_Run])

    def due(self, now: float) -> list[Event]:
        """What happens up to `now`, which never goes back, in order."""
        events: list[Event] = []
        self._arrive(now, events)
        for run in list(self._executing):
            if run.reports <= now:
                self._report(run, now, events)
        while self._queued and len(self._executing) < CONCURRENCY:
            self._start(self._queued.pop(0), now, events)
        return events

    def _arrive(self, now: float, events: list[Event]) -> None:
        if now >= self.next_batch:
            self.next_batch = now + BATCH_EVERY
            task = self.chance.choice(TASKS)
            batch_id = BATCH_PREFIX + self._word()
            events += [self._create(task, batch_id) for _ in range(BATCH_SIZE)]
        elif now >= self.next_run:
            self.next_run = now + self.chance.uniform(*RUN_EVERY)
            if len(self._queued) < CONCURRENCY:
                events.append(self._create(self.chance.choice(TASKS), None))

    def _create(self, task: Task, batch_id: str | None) -> Created:
        self._number += 1
        steps = self.chance.randint(4, 10)
        run = _Run(
            id=ID_PREFIX + self._word(),
            task=task,
            steps=steps,
            fails_at=self.chance.random() if self.chance.random() < FAILURES else 2.0,
            seconds=steps * self.chance.uniform(*STEP_SECONDS),
        )
        self._queued.append(run)
        others = self.chance.sample(OTHER_TAGS, self.chance.randint(0, 1))
        tags = [self.chance.choice(CUSTOMERS), *others]
        return Created(run.id, task.name, tags, batch_id, self._payload(task))

    def _payload(self, task: Task) -> dict[str, Any]:
        return {"source": task.payload.format(self._number), "attempts": 1}

    def _start(self, run: _Run, now: float, events: list[Event]) -> None:
        run.started = now
        run.reports = now + self.chance.uniform(*REPORT_EVERY)
        self._executing.append(run)
        events.append(Started(run.id, _label(run, 0.0)))

    def _report(self, run: _Run, now: float, events: list[Event]) -> None:
        run.reports = now + self.chance.uniform(*REPORT_EVERY)
        done = (now - run.started) / run.seconds
        if done >= run.fails_at:
            events.append(Failed(run.id, run.task.error))
        elif done >= 1:
            count = self.chance.randint(40, 4000)
            output = {run.task.unit: count, "seconds": round(now - run.started, 1)}
            events.append(Completed(run.id, f"{count:,} {run.task.unit}", output))
        else:
            events.append(Progressed(run.id, int(done * 1000) / 1000, _label(run, done)))
            return
        self._executing.remove(run)

    def _word(self) -> str:
        return f"{self.chance.getrandbits(48):012x}"


def _label(run: _Run, done: float) -> str:
    return f"step {int(done * run.steps) + 1} of {run.steps}"
