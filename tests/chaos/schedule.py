"""What befalls the service and when: drawn from a seed, so that it can be done again."""

from dataclasses import dataclass, field
from enum import StrEnum
from random import Random
from typing import Any

from app.sandbox.faults import Call, FaultKind

PAUSE_SECONDS = (0.5, 3.0)


class Victim(StrEnum):
    """Who is hit, and how."""

    WORKER_KILLED = "worker killed"
    WORKER_STOPPED = "worker stopped past its lease"
    WORKER_TERMINATED = "worker told to end"
    API_KILLED = "API killed"
    API_TERMINATED = "API told to end"
    POSTGRES_KILLED = "PostgreSQL killed"
    POSTGRES_RESTARTED = "PostgreSQL restarted"
    SLOT_HELD = "slot held by an outsider"
    ASANA = "Asana"


WEIGHTS = {
    Victim.WORKER_KILLED: 5,
    Victim.WORKER_STOPPED: 4,
    Victim.WORKER_TERMINATED: 4,
    Victim.API_KILLED: 3,
    Victim.API_TERMINATED: 3,
    Victim.POSTGRES_KILLED: 1,
    Victim.POSTGRES_RESTARTED: 1,
    Victim.SLOT_HELD: 2,
    Victim.ASANA: 12,
}
OF_ASANA: list[tuple[Call, FaultKind, dict[str, Any]]] = [
    (Call.RESOURCE, FaultKind.DROP_AFTER, {}),
    (Call.RESOURCE, FaultKind.DROP_BEFORE, {}),
    (Call.RESOURCE, FaultKind.DELAY, {"delay": 0.5, "times": 3}),
    (Call.RESOURCE, FaultKind.STATUS, {"status": 500}),
    (Call.RESOURCE, FaultKind.STATUS, {"status": 429, "retry_after": 1}),
    (Call.RESOURCE, FaultKind.JOB_FAILS, {}),
    (Call.GRAPH, FaultKind.DROP_AFTER, {}),
    (Call.JOB, FaultKind.STATUS, {"status": 503, "times": 5}),
    (Call.JOB, FaultKind.STATUS, {"status": 429, "retry_after": 1}),
    (Call.JOB, FaultKind.WRONG_CONTENT, {"times": 2}),
    (Call.JOB, FaultKind.DROP_BEFORE, {"times": 2}),
    (Call.JOB, FaultKind.EXPIRE_URL, {}),
    (Call.FILE, FaultKind.BITFLIP, {}),
    (Call.FILE, FaultKind.TRUNCATE, {}),
    (Call.FILE, FaultKind.TRUNCATE_FILE, {}),
    (Call.FILE, FaultKind.WRONG_CONTENT, {}),
    (Call.FILE, FaultKind.EXPIRE_URL, {}),
    (Call.FILE, FaultKind.STATUS, {"status": 503, "times": 3}),
    (Call.FILE, FaultKind.DELAY, {"delay": 1.0, "times": 3}),
]


@dataclass(frozen=True)
class Blow:
    """One thing that befalls; `target` numbers the process, `lasts` is in seconds."""

    at: float
    victim: Victim
    target: int = 0
    lasts: float = 0.0
    fault: tuple[Call, FaultKind] | None = None
    how: dict[str, Any] = field(default_factory=dict)


def schedule(seed: int, seconds: float, workers: int, apis: int) -> list[Blow]:
    """All that befalls within so many seconds, in order."""
    random, at, blows = Random(seed), 0.0, list[Blow]()
    while (at := at + random.uniform(*PAUSE_SECONDS)) < seconds:
        (victim,) = random.choices(list(WEIGHTS), list(WEIGHTS.values()))
        target = random.randrange({"worker": workers, "API": apis}.get(victim.split()[0], 1))
        lasts = random.uniform(1, 6)
        call, kind, how = random.choice(OF_ASANA)
        if victim is Victim.ASANA:
            blows.append(Blow(at, victim, fault=(call, kind), how=how))
        else:
            blows.append(Blow(at, victim, target, lasts))
    return blows
