"""What may happen to files on their way: cut, damaged, bombs, no room."""

import asyncio
import resource as limits
import zlib
from collections.abc import Iterator

import pytest

from app.artifacts.fetch import SEGMENT
from app.exports.attention import AttentionKind, attention
from app.exports.models import Export, Status
from app.lanes.models import WaitReason
from app.sandbox.faults import Call, FaultKind
from tests.servers import Request, serving
from tests.stores import folder_of
from tests.system.conftest import Service
from tests.system.exports import artifact_of, assert_verified, posts, resource

MIB = 1 << 20


def files(service: Service) -> list[str]:
    return [path.name for path in folder_of(service.settings).rglob("*") if path.is_file()]


def code(export: Export) -> str:
    assert export.status is Status.FAILED
    assert export.error is not None
    return str(export.error["code"])


async def test_17_a_download_is_cut_and_its_address_has_expired_by_then(service: Service) -> None:
    """Only what was cut is fetched again."""
    service.sandbox.put_workspace("1001", tasks=60_000)
    service.sandbox.add_fault(Call.FILE, FaultKind.TRUNCATE, fraction=0.7, after=1)
    service.sandbox.add_fault(Call.FILE, FaultKind.EXPIRE_URL, after=1)
    service.worker()
    (export,) = await service.finished(await service.submit(resource()), within=90)
    await assert_verified(service, export)
    size = (await artifact_of(service, export)).bytes
    assert SEGMENT < size < 2 * SEGMENT
    assert posts(service) == [201]
    assert len(files(service)) == 1
    asked = service.sandbox.journal(call=Call.FILE)
    assert len(asked) == 2 + 2, asked


@pytest.mark.parametrize(
    "kind", [FaultKind.TRUNCATE_FILE, FaultKind.BITFLIP, FaultKind.WRONG_CONTENT, FaultKind.NOT_JSON_LINES]
)
async def test_18_a_file_that_stays_damaged_is_never_called_succeeded(
    service: Service, kind: FaultKind
) -> None:
    service.sandbox.add_fault(Call.FILE, kind, times=3)
    service.worker()
    export = await service.submit(resource())
    (export,) = await service.finished(export)
    assert code(export) == "artifact-corrupt"
    assert not files(service)
    assert len(service.sandbox.journal(call=Call.FILE)) == 3
    (following,) = await service.finished(await service.submit(resource()))
    await assert_verified(service, following)


def zeros() -> Iterator[bytes]:
    """One line without an end."""
    yield from [bytes(MIB)] * 256


def short_lines() -> Iterator[bytes]:
    yield from [b'{"gid":"1"}\n' * (MIB // 12)] * 256


@pytest.mark.parametrize("content", [zeros, short_lines])
async def test_19_a_bomb(service: Service, content: type[Iterator[bytes]]) -> None:
    bomb = _packed(content)

    async def hand_out(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(bomb)}\r\n\r\n".encode() + bomb)

    worker = service.worker(MAX_LINE_BYTES=str(8 * MIB), MAX_UNCOMPRESSED_BYTES=str(20 * MIB))
    await worker.said("worker.started")
    before = worker.most_memory()
    async with serving(hand_out) as server:
        service.sandbox.patch(public_url=server.url)
        (export,) = await service.finished(await service.submit(resource()))
    assert code(export) == "artifact-too-large"
    assert not files(service)
    assert worker.most_memory() - before < 100 * MIB


def _packed(content: type[Iterator[bytes]]) -> bytes:
    packer = zlib.compressobj(wbits=31)
    return b"".join(map(packer.compress, content())) + packer.flush()


async def test_20_no_room_for_the_file(service: Service) -> None:
    """The worker may write files of so many bytes only, until it may write more."""
    service.sandbox.put_workspace("1001", tasks=20_000)
    service.sandbox.put_workspace("1002", tasks=20)
    worker = service.worker(LOG_LEVEL="error")
    limits.prlimit(worker.pid, limits.RLIMIT_FSIZE, (100_000, limits.RLIM_INFINITY))
    export = await service.submit(resource("1001"))
    await service.until_run(export, lambda run: run.wait_reason is WaitReason.STORAGE_FULL)
    assert not files(service)
    async with service.sessions() as session:
        items = await attention(session, service.tenants["1001"].client, blocked_seconds=3600)
    assert [item.kind for item in items] == [AttentionKind.STORAGE_FULL]
    # The slot is free: another one runs, and has room.
    service.sandbox.put_workspace("1001", tasks=20)
    (small,) = await service.finished(await service.submit(resource("1001")))
    await assert_verified(service, small)
    limits.prlimit(worker.pid, limits.RLIMIT_FSIZE, (limits.RLIM_INFINITY, limits.RLIM_INFINITY))
    (export,) = await service.finished(export)
    await assert_verified(service, export)
    assert (await artifact_of(service, export)).bytes > 100_000
    assert len(files(service)) == 2
