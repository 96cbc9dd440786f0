"""The official SDK. It has no types, so it is kept behind one name that has none either."""

from importlib import import_module
from typing import Any

asana: Any = import_module("asana")


class OfficialClient:
    """The SDK's interfaces, all of one client."""

    def __init__(self, host: str, token: str) -> None:
        configuration = asana.Configuration()
        configuration.host = host
        configuration.access_token = token
        client = asana.ApiClient(configuration)
        self.exports: Any = asana.ExportsApi(client)
        self.jobs: Any = asana.JobsApi(client)
        self.users: Any = asana.UsersApi(client)
        self.workspaces: Any = asana.WorkspacesApi(client)
