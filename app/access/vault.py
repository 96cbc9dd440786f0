"""Encryption of tokens at rest, with keys that can be rotated."""

import contextlib
import os
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from pydantic import SecretStr

from app.settings import Settings


class VaultError(Exception):
    """The keys are missing, malformed, or not those a token was encrypted with."""


class Vault:
    """Encrypts with the first key, decrypts with any: put a new key first, and old tokens stay readable."""

    def __init__(self, keys: tuple[SecretStr, ...]) -> None:
        try:
            self._fernet = MultiFernet([Fernet(key.get_secret_value()) for key in keys])
        except ValueError as error:
            raise VaultError(
                "each of ASANA_EXPORTS_SECRET_KEYS must be 32 bytes in urlsafe base64"
            ) from error

    def encrypt(self, token: SecretStr) -> bytes:
        return self._fernet.encrypt(token.get_secret_value().encode())

    def decrypt(self, encrypted: bytes) -> SecretStr:
        """Raises `VaultError` when no key fits."""
        try:
            return SecretStr(self._fernet.decrypt(encrypted).decode())
        except InvalidToken as error:
            raise VaultError("no key in ASANA_EXPORTS_SECRET_KEYS decrypts this token") from error


def open_vault(settings: Settings) -> Vault:
    """The vault with the keys of the settings, or, beside an embedded database, a key in the data folder.

    Raises `VaultError` when an external database is used without keys: each machine would make its own.
    """
    if settings.secret_keys:
        return Vault(settings.secret_keys)
    if settings.database_url:
        raise VaultError(
            "set ASANA_EXPORTS_SECRET_KEYS: with ASANA_EXPORTS_DATABASE_URL no key is made by itself"
        )
    return Vault((_key_in(settings.data_dir),))


def _key_in(folder: Path) -> SecretStr:
    """The folder's key, made by whoever comes first."""
    path = folder / "secret.key"
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f"secret.key.{os.getpid()}"
    with contextlib.suppress(FileExistsError):
        draft.touch(mode=0o600, exist_ok=False)
        draft.write_bytes(Fernet.generate_key())
        if not path.exists():
            # A link fails where the file exists by now: of two processes that start together one wins.
            path.hardlink_to(draft)
    draft.unlink(missing_ok=True)
    return SecretStr(path.read_text())
