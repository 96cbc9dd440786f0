"""The service of real processes."""

from tests.system.conftest import service as service
