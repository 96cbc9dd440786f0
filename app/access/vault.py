"""Encryption of tokens at rest, with keys that can be rotated."""

import contextlib
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from pydantic import SecretStr

from app.settings import Settings


class VaultError(Exception):
    """The keys are missing, malformed, or not those a token was encrypted with."""


Keys = Callable[[], Sequence[SecretStr]]


class Vault:
    """Encrypts with the first key, decrypts with any: put a new key first, and old tokens stay readable.

    Keys are asked for anew before each encryption and where none fits, so that they may change meanwhile.
    Raises `VaultError`.
    """

    def __init__(self, keys: Keys, source: str = "ASANA_EXPORTS_SECRET_KEYS") -> None:
        self._keys = keys
        self._source = source
        self._fernet = self._open()

    def _open(self) -> MultiFernet:
        try:
            keys = [Fernet(key.get_secret_value()) for key in self._keys()]
        except ValueError as error:
            raise VaultError(f"each key in {self._source} must be 32 bytes in urlsafe base64") from error
        except OSError as error:
            raise VaultError(f"the secret keys cannot be read: {error}") from error
        if not keys:
            raise VaultError(f"there is no key in {self._source}")
        return MultiFernet(keys)

    def encrypt(self, token: SecretStr) -> bytes:
        self._fernet = self._open()
        return self._fernet.encrypt(token.get_secret_value().encode())

    def decrypt(self, encrypted: bytes) -> SecretStr:
        """Raises `VaultError` when no key fits."""
        with contextlib.suppress(InvalidToken):
            return SecretStr(self._fernet.decrypt(encrypted).decode())
        self._fernet = self._open()
        try:
            return SecretStr(self._fernet.decrypt(encrypted).decode())
        except InvalidToken as error:
            raise VaultError(f"no key in {self._source} decrypts this token") from error


def open_vault(settings: Settings) -> Vault:
    """The vault with the keys of the settings, or, beside an embedded database, those of the data folder.

    Raises `VaultError` when an external database is used without keys: each machine would make its own.
    """
    if settings.secret_keys:
        return Vault(lambda: settings.secret_keys)
    if settings.secret_keys_file:
        return _vault_of(settings.secret_keys_file)
    if settings.database_url:
        raise VaultError(
            "set ASANA_EXPORTS_SECRET_KEYS or ASANA_EXPORTS_SECRET_KEYS_FILE: with "
            "ASANA_EXPORTS_DATABASE_URL no key is made by itself"
        )
    file = _own_file(settings)
    _make_first_key(file)
    return _vault_of(file)


def _vault_of(file: Path) -> Vault:
    return Vault(partial(_keys_in, file), str(file))


def renew_own_key(settings: Settings, tokens: Sequence[bytes]) -> None:
    """Put a new key before those in the data folder, if that is where they are.

    Of the old ones remain what `tokens` need, and the last first one, which a process may be about to use.
    """
    if settings.secret_keys or settings.secret_keys_file or settings.database_url:
        return
    file = _own_file(settings)
    first, *others = _keys_in(file)
    needed = [key for key in others if any(_fits(key, token) for token in tokens)]
    _draft(file, [_new_key(), first, *needed]).replace(file)
    _sync(file.parent)


def _own_file(settings: Settings) -> Path:
    return settings.data_dir / "secret.key"


def _keys_in(file: Path) -> list[SecretStr]:
    """One a line, or comma separated."""
    return [SecretStr(key) for key in file.read_text().replace(",", " ").split()]


def _make_first_key(file: Path) -> None:
    """By whoever comes first."""
    if file.exists():
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = _draft(file, [_new_key()])
    # A link fails where the file exists by now: of two processes that start together one wins.
    with contextlib.suppress(FileExistsError):
        file.hardlink_to(draft)
    draft.unlink()
    _sync(file.parent)


def _draft(file: Path, keys: Sequence[SecretStr]) -> Path:
    """Keys on disk beside the file: tokens will need them after a power cut, too."""
    draft = file.with_name(f"{file.name}.{os.getpid()}")
    draft.touch(mode=0o600)
    draft.write_text("".join(f"{key.get_secret_value()}\n" for key in keys))
    _sync(draft)
    return draft


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _new_key() -> SecretStr:
    return SecretStr(Fernet.generate_key().decode())


def _fits(key: SecretStr, token: bytes) -> bool:
    try:
        Fernet(key.get_secret_value()).decrypt(token)
    except InvalidToken:
        return False
    return True
