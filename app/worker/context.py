"""What the stories of a worker have at hand."""

from dataclasses import dataclass
from random import Random

import httpx

from app.access.vault import Vault
from app.artifacts.store import Store
from app.clock import Clock
from app.settings import Settings
from app.webhooks.places import Places
from app.worker.backoff import Backoff
from app.worker.lease import Lease
from app.worker.transactions import Transactions
from app.worker.upstream import Upstream


@dataclass(frozen=True)
class Context:
    """The worker's tools: settings, time, chance, pauses, database, Asana, store, receivers of webhooks and
    its own lease.

    `backoff` is for calls and attempts that failed, `until_probe` for a slot that somebody else holds.
    """

    settings: Settings
    clock: Clock
    random: Random
    backoff: Backoff
    until_probe: Backoff
    write: Transactions
    upstream: Upstream
    downloads: httpx.AsyncClient
    store: Store
    vault: Vault
    receivers: httpx.AsyncClient
    places: Places
    lease: Lease
