"""A connection that gives up on a server which does not answer: a frozen one never hangs up by itself."""

import asyncio
import contextlib
import os
import socket
from typing import Any

import psycopg

# How long a server may take to be told that an answer is not waited for any more.
CANCEL_SECONDS = 1.0


class Connection(psycopg.AsyncConnection[Any]):
    """`patience` are the seconds for which an answer is waited for; None for as long as it takes.

    Beyond them it is lost, as if the server had closed it.
    """

    patience: float | None = None

    async def wait(self, gen: Any, *args: Any, **options: Any) -> Any:
        if self.patience is None:
            return await super().wait(gen, *args, **options)
        giving_up = asyncio.get_running_loop().call_later(self.patience, self._hang_up)
        try:
            return await super().wait(gen, *args, **options)
        finally:
            giving_up.cancel()

    async def cancel_safe(self, *, timeout: float = CANCEL_SECONDS) -> None:
        """Whoever is canceled asks the server to stop first, and must not wait for long for that either."""
        try:
            await super().cancel_safe(timeout=min(timeout, CANCEL_SECONDS))
        except psycopg.Error:
            self._hang_up()

    def _hang_up(self) -> None:
        with (
            contextlib.suppress(psycopg.OperationalError, OSError),
            socket.socket(fileno=os.dup(self.fileno())) as line,
        ):
            line.shutdown(socket.SHUT_RDWR)
