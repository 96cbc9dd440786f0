"""A client of the control panel, for tests and demonstrations."""

from types import TracebackType
from typing import Any, Literal, Self

import httpx

from app.sandbox.faults import Call, Fault, FaultKind
from app.sandbox.journal import JournalEntry, Stats
from app.sandbox.panel import ClockView, JobView, WorkspaceView
from app.sandbox.settings import SandboxSettings
from app.sandbox.tokens import TokenKind, TokenView


class SandboxControl:
    """Steers a running stand-in. `base_url` is its address, with or without `/api/1.0`.

    ```python
    with SandboxControl("http://127.0.0.1:8500") as sandbox:
        sandbox.hold_slot("1001")
        sandbox.advance(3600)
        sandbox.release_slot("1001")
    ```
    """

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url.rstrip("/").removesuffix("/api/1.0")
        # The stand-in is near by: no proxy of the environment has a part in this.
        self._http = httpx.Client(base_url=f"{self.base_url}/_sandbox", trust_env=False, timeout=30)

    @property
    def api_url(self) -> str:
        """What a client of Asana takes as its host."""
        return f"{self.base_url}/api/1.0"

    def settings(self) -> SandboxSettings:
        """All settings."""
        return SandboxSettings.model_validate_json(self._send("GET", "/settings"))

    def patch(self, **changes: Any) -> SandboxSettings:
        """Change some settings."""
        return SandboxSettings.model_validate_json(self._send("PATCH", "/settings", changes))

    def clock(self) -> ClockView:
        """The virtual time."""
        return ClockView.model_validate_json(self._send("GET", "/clock"))

    def advance(self, seconds: float) -> ClockView:
        """Jump ahead in virtual time."""
        return ClockView.model_validate_json(self._send("POST", "/clock/advance", {"seconds": seconds}))

    def add_token(
        self,
        token: str,
        name: str,
        kind: TokenKind = TokenKind.SERVICE_ACCOUNT,
        *,
        workspaces: list[str] | None = None,
        sees: float = 1.0,
    ) -> TokenView:
        """Accept a token. Tokens of one name are one account."""
        body = {"token": token, "name": name, "kind": kind, "workspaces": workspaces, "sees": sees}
        return TokenView.model_validate_json(self._send("POST", "/tokens", body))

    def revoke_token(self, name: str) -> None:
        """Answer 401 to the tokens of this name from now on."""
        self._send("DELETE", f"/tokens/{name}")

    def tokens(self) -> list[TokenView]:
        """The accepted tokens by name."""
        return [TokenView.model_validate(token) for token in self._list("/tokens")]

    def put_workspace(self, gid: str, **sizes: Any) -> WorkspaceView:
        """Add a workspace, or change some of what there is in it."""
        return WorkspaceView.model_validate_json(self._send("PUT", f"/workspaces/{gid}", sizes))

    def workspaces(self) -> list[WorkspaceView]:
        """All workspaces with their sizes."""
        return [WorkspaceView.model_validate(workspace) for workspace in self._list("/workspaces")]

    def hold_slot(self, workspace: str, seconds: float | None = None) -> WorkspaceView:
        """Let somebody outside keep the workspace's export slot."""
        answer = self._send("PUT", f"/workspaces/{workspace}/hold", {"seconds": seconds})
        return WorkspaceView.model_validate_json(answer)

    def release_slot(self, workspace: str) -> None:
        """Let the outsider go."""
        self._send("DELETE", f"/workspaces/{workspace}/hold")

    def add_fault(
        self,
        call: Call | str,
        kind: FaultKind | str,
        *,
        times: int | None = 1,
        after: int = 0,
        workspace: str | None = None,
        **how: Any,
    ) -> Fault:
        """Let something go wrong; `how` is `status`, `message`, `retry_after`, `delay` or `fraction`."""
        body = {"call": call, "kind": kind, "times": times, "after": after, "workspace": workspace, **how}
        return Fault.model_validate_json(self._send("POST", "/faults", body))

    def faults(self) -> list[Fault]:
        """The faults still to happen."""
        return [Fault.model_validate(fault) for fault in self._list("/faults")]

    def clear_faults(self) -> None:
        """Forget all faults."""
        self._send("DELETE", "/faults")

    def jobs(self, workspace: str | None = None) -> list[JobView]:
        """All jobs ever started, oldest first."""
        return [JobView.model_validate(job) for job in self._list("/jobs", workspace=workspace)]

    def end_job(self, gid: str, status: Literal["succeeded", "failed"] = "succeeded") -> JobView:
        """End a running job now."""
        return JobView.model_validate_json(self._send("POST", f"/jobs/{gid}/end", {"status": status}))

    def journal(
        self, *, after: int = 0, workspace: str | None = None, call: Call | str | None = None
    ) -> list[JournalEntry]:
        """What was asked and answered, oldest first."""
        entries = self._list("/journal", after=after, workspace=workspace, call=call)
        return [JournalEntry.model_validate(entry) for entry in entries]

    def stats(self) -> Stats:
        """Counts of requests, and how many jobs each workspace has had at the same time."""
        return Stats.model_validate_json(self._send("GET", "/stats"))

    def reset(self) -> None:
        """Forget everything and start again with the settings of the start."""
        self._send("POST", "/reset")

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _send(self, method: str, path: str, body: object = None) -> bytes:
        response = (
            self._http.request(method, path, json=body)
            if body is not None
            else self._http.request(method, path)
        )
        return response.raise_for_status().content

    def _list(self, path: str, **query: Any) -> list[Any]:
        given = {name: value for name, value in query.items() if value is not None}
        listed: list[Any] = self._http.get(path, params=given).raise_for_status().json()
        return listed
