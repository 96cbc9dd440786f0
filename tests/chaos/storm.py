"""The processes of a service, and the blows that befall them."""

import asyncio
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from tests.chaos.schedule import Blow, Victim
from tests.postgres import OwnPostgres
from tests.processes import Process
from tests.system.conftest import Service

# The workspace whose slot the outsider takes.
HELD = "1001"


@dataclass
class Storm:
    """Workers and API processes by number; one that has ended gets a successor of the same number."""

    service: Service
    postgres: OwnPostgres
    workers: dict[int, Process] = field(default_factory=dict)
    apis: dict[int, Process] = field(default_factory=dict)
    addresses: dict[int, str] = field(default_factory=dict)
    befallen: Counter[str] = field(default_factory=Counter)
    _locks: defaultdict[tuple[str, int], asyncio.Lock] = field(
        default_factory=lambda: defaultdict(asyncio.Lock)
    )

    async def supervise(self) -> None:
        """As what runs containers would: who ends by himself, for the database is away, is begun anew."""
        while True:
            await asyncio.sleep(0.5)
            for number, worker in self.workers.items():
                lock = self._locks["worker", number]
                if not worker.lives and not lock.locked():
                    self.workers[number] = self.service.worker()

    async def begin(self, workers: int, apis: int) -> None:
        for number in range(workers):
            self.workers[number] = self.service.worker()
        for number in range(apis):
            await self._serve(number)

    async def rage(self, blows: list[Blow], over: Callable[[], bool]) -> None:
        """Each at its time, until there is no more to be done."""
        began = time.monotonic()
        async with asyncio.TaskGroup() as effects:
            for blow in blows:
                while (wait := began + blow.at - time.monotonic()) > 0 and not over():
                    await asyncio.sleep(min(wait, 0.5))
                if over():
                    return
                self.befallen[blow.victim] += 1
                effects.create_task(self._in_turn(blow))

    async def calm(self) -> None:
        """Nothing goes wrong from now on: all that had befallen is over."""
        self.service.sandbox.clear_faults()

    async def _in_turn(self, blow: Blow) -> None:
        """Who is down is hit again when he is up."""
        async with self._locks[blow.victim.split()[0], blow.target]:
            await self._befall(blow)

    async def _befall(self, blow: Blow) -> None:
        match blow.victim:
            case Victim.WORKER_KILLED:
                self.workers[blow.target].kill()
                self.workers[blow.target] = self.service.worker()
            case Victim.WORKER_TERMINATED:
                await _ended(self.workers[blow.target])
                self.workers[blow.target] = self.service.worker()
            case Victim.WORKER_STOPPED:
                worker = self.workers[blow.target]
                worker.signal(signal.SIGSTOP)
                await asyncio.sleep(blow.lasts)
                worker.signal(signal.SIGCONT)
            case Victim.API_KILLED:
                self.apis[blow.target].kill()
                await self._serve(blow.target)
            case Victim.API_TERMINATED:
                await _ended(self.apis[blow.target])
                await self._serve(blow.target)
            case Victim.POSTGRES_KILLED:
                await asyncio.to_thread(self.postgres.kill)
                await asyncio.to_thread(self.postgres.start)
            case Victim.POSTGRES_RESTARTED:
                await asyncio.to_thread(self._restart_postgres)
            case Victim.SLOT_HELD:
                self.service.sandbox.hold_slot(HELD, blow.lasts * 60)
            case Victim.ASANA:
                assert blow.fault
                self.service.sandbox.add_fault(*blow.fault, **blow.how)

    def _restart_postgres(self) -> None:
        with self.postgres.away():
            pass

    async def _serve(self, number: int) -> None:
        """Callers learn of the new address when it listens."""
        while True:
            api = self.apis[number] = self.service.api()
            with suppress(AssertionError):
                self.addresses[number] = await api.address()
                return


async def _ended(process: Process) -> None:
    process.signal(signal.SIGTERM)
    await process.ended(60)
