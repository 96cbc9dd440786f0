"""A stand-in Asana for tests and demonstrations: an application of its own, shipped with the product."""

from app.sandbox.app import create_sandbox
from app.sandbox.server import serve
from app.sandbox.settings import SandboxSettings, WorkspaceSpec
from app.sandbox.tokens import SERVICE_TOKEN, USER_TOKEN

__all__ = ["SERVICE_TOKEN", "USER_TOKEN", "SandboxSettings", "WorkspaceSpec", "create_sandbox", "serve"]
