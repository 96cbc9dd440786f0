"""What docs/from-python.md shows does what the page says."""

import signal
import sys
from pathlib import Path

import httpx

from tests.processes import Process, said
from tests.test_pages import ROOT, part

PAGE = (ROOT / "docs" / "from-python.md").read_text()


# Some of what the blocks print, by the part of the page.
SAID = {
    "notebook": [" tasks\n", "'team': ", " rows\n"],
    "steps": ["succeeded None\n", " bytes\n", "There is no export exp_", "\npaused\n", "\n['Engineering 1'"],
}


def code_of(name: str) -> str:
    blocks = part(name, PAGE).split("```python\n")[1:]
    return "\n".join(block.split("```")[0] for block in blocks)


async def test_the_page_can_be_followed_as_written(folder: Path) -> None:
    env = {"ASANA_EXPORTS_DATA_DIR": str(folder / "data"), "ASANA_EXPORTS_PORT": "0"}
    with Process(folder / "up.log", "up", "--sandbox", "--sandbox-port", "0", env=env) as up:
        url = (await up.said("Docs:", within=120)).split()[-1].removesuffix("/docs")
        key = (await up.said("API key", within=60)).split()[-1]
        async with httpx.AsyncClient(
            base_url=url, headers={"Authorization": f"Bearer {key}"}, trust_env=False
        ) as http:
            token = {"name": "service account", "token": "sandbox-service-token"}
            credential = (await http.post("/v1/credentials", json=token)).json()["id"]
            registered = await http.put("/v1/workspaces/1001", json={"credential": credential})
            assert registered.status_code == 201
        variables = {"ASANA_EXPORTS_URL": url, "ASANA_EXPORTS_KEY": key, "NO_PROXY": "127.0.0.1"}
        for name in "notebook", "steps":
            (folder / f"{name}.py").write_text(code_of(name))
            code, output = await said(sys.executable, f"{name}.py", cwd=folder, env=variables, within=400)
            assert code == 0, output
            assert all(words in output for words in SAID[name]), output
        up.signal(signal.SIGTERM)
        await up.ended(60)
