"""Receipts as they are asked for, kept, and checked by the command line."""

import asyncio
import gzip
import json
import re
import sys
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import func, select

from app.access.models import SigningKey
from app.access.signing import new_signing_key
from app.artifacts.models import Artifact
from app.artifacts.receipt import read
from app.artifacts.verify import Limits, Verified, Verifier
from app.database.base import BigInt
from tests.api.conftest import Api
from tests.api.test_limits import asked, succeeded
from tests.builders import deleted
from tests.processes import COMMAND, said

DOCS = Path(__file__).parents[2] / "docs" / "files.md"
FILE = gzip.compress(b'{"gid":"1"}\n{"gid":"2"}\n', mtime=0)


def verified(file: bytes) -> Verified:
    verifier = Verifier(Limits(1 << 20, 1 << 20), "task")
    verifier.feed(file)
    return verifier.finish()


async def finished(api: Api, caller: httpx.AsyncClient) -> str:
    """An export whose file was verified; returns its address."""
    export, found = (await asked(caller)).json()["id"], verified(FILE)
    name = await succeeded(api, export, FILE)
    async with api.sessions.begin() as session:
        artifact = await session.get_one(Artifact, name)
        artifact.sha256, artifact.uncompressed_bytes = found.sha256, BigInt(found.uncompressed_bytes)
        artifact.lines, artifact.by_type = BigInt(found.lines), found.by_type
        artifact.duplicate_gids, artifact.key_paths = BigInt(found.duplicate_gids), found.key_paths
    return f"/v1/exports/{export}"


async def keys(api: Api) -> Any:
    answer = await (await api.anybody()).get("/.well-known/jwks.json")
    assert answer.headers["Content-Type"] == "application/jwk-set+json"
    return answer.json()


async def test_a_receipt_is_signed_by_a_key_that_everybody_may_see(
    api: Api, caller: httpx.AsyncClient
) -> None:
    assert await keys(api) == {"keys": []}
    export = await finished(api, caller)
    answer = await caller.get(export + "/receipt")
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/jose")
    _, facts = read(answer.text, await keys(api))
    shown = (await caller.get(export)).json()
    assert facts["artifact"] == shown["artifact"]["id"]
    assert facts["request"] == shown["request"]
    assert facts["sha256"] == shown["artifact"]["sha256"] == verified(FILE).sha256


async def test_a_receipt_stays_as_it_is_whatever_key_is_new(api: Api, caller: httpx.AsyncClient) -> None:
    export, another = await finished(api, caller), await finished(api, caller)
    before = (await caller.get(export + "/receipt")).text
    async with api.sessions.begin() as session:
        new = (await new_signing_key(session, api.services.vault)).id
    assert (await caller.get(export + "/receipt")).text == before
    known = await keys(api)
    assert read(before, known)[0] != new
    assert read((await caller.get(another + "/receipt")).text, known)[0] == new


async def test_many_who_ask_at_once_get_the_same_receipt(api: Api, caller: httpx.AsyncClient) -> None:
    export = await finished(api, caller)
    answers = await asyncio.gather(*(caller.get(export + "/receipt") for _ in range(8)))
    assert len({answer.text for answer in answers}) == 1
    async with api.sessions() as session:
        assert await session.scalar(select(func.count()).select_from(SigningKey)) == 1


async def test_a_receipt_outlives_its_file(api: Api, caller: httpx.AsyncClient) -> None:
    export = await finished(api, caller)
    before = (await caller.get(export + "/receipt")).text
    async with api.sessions.begin() as session:
        await deleted(session, (await session.scalars(select(Artifact))).one())
    assert (await caller.get(export + "/manifest")).status_code == 410
    assert (await caller.get(export + "/receipt")).text == before


async def test_anybody_can_check_a_file_by_its_receipt(
    api: Api, caller: httpx.AsyncClient, tmp_path: Path
) -> None:
    receipt, jwks, file, cut = (tmp_path / name for name in ("receipt", "jwks", "file", "cut"))
    receipt.write_text((await caller.get(await finished(api, caller) + "/receipt")).text + "\n")
    jwks.write_text(json.dumps(await keys(api)))
    file.write_bytes(FILE)
    cut.write_bytes(FILE[:-1])

    async def check(what: Path, *by: str) -> tuple[int | None, str]:
        return await said(COMMAND, "receipt", "verify", receipt, what, *by, cwd=tmp_path)

    offline = ("--jwks", "jwks")
    for by in (offline, ("--url", api.url)):
        code, output = await check(file, *by)
        assert (code, "2 lines, whole and unchanged" in output) == (0, True), output
    code, output = await check(cut, *offline)
    assert (code, "the file ends in the middle" in output) == (1, True), output
    for wrong in ([], [*offline, "--url", api.url], ["--url", "http://127.0.0.1:9"], ["--jwks", "file"]):
        code, output = await check(file, *wrong)
        assert (code, "Traceback" in output) == (1, False), output
    receipt.write_text(receipt.read_text().replace(".", ".x", 1))
    code, output = await check(file, *offline)
    assert (code, "is not signed by any of the keys" in output) == (1, True), output


async def test_the_steps_of_the_docs_check_a_file_by_hand(
    api: Api, caller: httpx.AsyncClient, tmp_path: Path
) -> None:
    found = re.search(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert found
    (tmp_path / "by_hand.py").write_text(found[1])
    (tmp_path / "receipt").write_text((await caller.get(await finished(api, caller) + "/receipt")).text)
    (tmp_path / "jwks.json").write_text(json.dumps(await keys(api)))
    (tmp_path / "tasks.jsonl.gz").write_bytes(FILE)
    code, output = await said(sys.executable, "by_hand.py", cwd=tmp_path)
    assert (code, "the file of artifact art_" in output) == (0, True), output
    (tmp_path / "tasks.jsonl.gz").write_bytes(FILE[:-1])
    assert (await said(sys.executable, "by_hand.py", cwd=tmp_path))[0] == 1
