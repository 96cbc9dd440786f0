"""The calls of Asana that the tests make, as plainly as HTTP allows."""

import contextlib
import gzip
from typing import Any

import httpx
import orjson

TASKS: dict[str, Any] = {"resource_type": "task"}


class AsanaCaller:
    """A client with a token. Answers are httpx responses, so that tests can look at all of them."""

    def __init__(self, api_url: str, token: str | None) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.http = httpx.Client(base_url=api_url, headers=headers, trust_env=False, timeout=30)

    def graph(self, parent: str) -> httpx.Response:
        return self.http.post("/exports/graph", json={"data": {"parent": parent}})

    def resource(self, workspace: str, *items: dict[str, Any]) -> httpx.Response:
        data = {"workspace": workspace, "export_request_parameters": list(items or (TASKS,))}
        return self.http.post("/exports/resource", json={"data": data})

    def job(self, gid: str, **query: str) -> httpx.Response:
        return self.http.get(f"/jobs/{gid}", params=query)

    def url(self, gid: str) -> str:
        """The download URL of a job that has one."""
        job = data(self.job(gid))
        url = (job.get("new_graph_export") or job["new_resource_export"])["download_url"]
        assert isinstance(url, str)
        return url

    def lines(self, gid: str) -> list[dict[str, Any]]:
        """The lines of a finished job's file."""
        return read_lines(fetch(self.url(gid)).content)


def data(response: httpx.Response) -> dict[str, Any]:
    """What is in the envelope of a success."""
    assert response.is_success, response.text
    inside = response.json()["data"]
    assert isinstance(inside, dict)
    return inside


def message(response: httpx.Response) -> str:
    """What is in the envelope of an error."""
    assert response.is_error, response.text
    (error,) = response.json()["errors"]
    assert "developers.asana.com/docs/errors" in error["help"]
    return str(error["message"])


def fetch(url: str, **headers: str) -> httpx.Response:
    """The file behind a URL, without a token."""
    return httpx.get(
        url, headers={name.replace("_", "-"): value for name, value in headers.items()}, trust_env=False
    )


def receive(url: str) -> tuple[int, bytes]:
    """The length that a file is said to have, and as much of it as comes before the connection breaks."""
    received = b""
    with httpx.stream("GET", url, trust_env=False, timeout=60) as response:
        with contextlib.suppress(httpx.RemoteProtocolError):
            for part in response.iter_raw():
                received += part
        return int(response.headers["content-length"]), received


def read_lines(packed: bytes) -> list[dict[str, Any]]:
    """The objects in a gzipped JSON Lines file."""
    return [orjson.loads(line) for line in gzip.decompress(packed).splitlines()]
