"""The API's description makes a client that does the whole job."""

import os
from pathlib import Path

from tests.processes import BIN, said
from tests.system.conftest import Service

FLOW = Path(__file__).with_name("generated_flow.py")
# The generator knows no other media types for a file and for text.
CONFIG = """
content_type_overrides:
  application/gzip: application/octet-stream
  application/vnd.apache.parquet: application/octet-stream
  application/jose: text/plain
"""


async def test_a_generated_client_runs_the_main_flow(service: Service, tmp_path: Path) -> None:
    code, document = await said(BIN / "asana-exports", "openapi", cwd=tmp_path)
    assert code == 0
    (tmp_path / "openapi.json").write_text(document)
    (tmp_path / "config.yaml").write_text(CONFIG)
    code, output = await said(
        BIN / "openapi-python-client", "generate", "--path", "openapi.json", "--config", "config.yaml",
        "--meta", "none", "--output-path", "generated_client", "--fail-on-warning",
        cwd=tmp_path, env={"PATH": f"{BIN}:{os.environ['PATH']}"},
    )  # fmt: skip
    assert code == 0, output
    service.worker()
    address = await service.api().address()
    code, output = await said(
        BIN / "python", FLOW, address, service.tenants["1001"].key,
        cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert code == 0, output
