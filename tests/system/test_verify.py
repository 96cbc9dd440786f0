"""The command by which anybody may see whether the promises were kept."""

from pathlib import Path

from sqlalchemy import update

from app.artifacts.models import Artifact
from tests.processes import COMMAND, said
from tests.system.conftest import Service
from tests.system.exports import assert_verified, resource


async def test_a_file_that_was_changed_is_told(service: Service, tmp_path: Path) -> None:
    service.worker()
    (export,) = await service.finished(await service.submit(resource()))
    artifact = await assert_verified(service, export)
    code, output = await said(COMMAND, "verify", cwd=tmp_path, env=service.env())
    assert (code, output.splitlines()[-1]) == (0, "Every promise was kept.")
    async with service.sessions.begin() as session:
        await session.execute(update(Artifact).values(sha256="0" * 64))
    code, output = await said(COMMAND, "verify", cwd=tmp_path, env=service.env())
    assert code == 1
    assert f"{artifact.key} is not the file that was verified" in output
    code, _ = await said(COMMAND, "verify", "--no-files", cwd=tmp_path, env=service.env())
    assert code == 0
    async with service.sessions.begin() as session:
        await session.execute(update(Artifact).values(sha256=artifact.sha256))
