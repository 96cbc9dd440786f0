"""A real HTTP server on a free port whose answers a test writes byte by byte, breaks included."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

Handler = Callable[["Request", asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Request:
    """What the server was asked."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Server:
    """Where it listens, and all it was asked."""

    url: str
    requests: list[Request] = field(default_factory=list)


@asynccontextmanager
async def serving(handler: Handler, certificate: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    """Serve each connection's one request by the handler, then close it; with a certificate, over TLS."""

    connections: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if task := asyncio.current_task():
            connections.add(task)
        try:
            request = await _read(reader)
            server.requests.append(request)
            await handler(request, writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    listener = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=certificate)
    scheme = "https" if certificate else "http"
    server = Server(f"{scheme}://127.0.0.1:{listener.sockets[0].getsockname()[1]}")
    async with listener:
        try:
            yield server
        finally:
            for connection in connections:
                connection.cancel()
            await asyncio.gather(*connections, return_exceptions=True)


async def _read(reader: asyncio.StreamReader) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    method, path, _ = head[0].split(" ")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Request(method, path, headers, body)


def answer(status: int, body: bytes = b"", length: int | None = None, **headers: str) -> bytes:
    """A whole response; `length` tells another Content-Length than the true one."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"HTTP/1.1 {status} Whatever", "Connection: close"]
    lines += [f"Content-Length: {len(body) if length is None else length}"]
    lines += [f"{name}: {value}" for name, value in named.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def always(response: bytes) -> Handler:
    async def handle(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(response)

    return handle


async def hang_up(_: Request, writer: asyncio.StreamWriter) -> None:
    """Close without an answer."""
    writer.transport.abort()
