"""Which service, by which key: from options, the environment, or a file of profiles."""

import os
import tomllib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import tomli_w

URL, KEY, PROFILE = "ASANA_EXPORTS_URL", "ASANA_EXPORTS_KEY", "ASANA_EXPORTS_PROFILE"
DEFAULT = "default"


class ConfigError(Exception):
    """It is not known which service is meant, or by which key; the message tells what to do."""


@dataclass(frozen=True)
class Profile:
    """A service, and the key to it."""

    name: str
    url: str
    key: str
    source: str
    """Where the key is from."""


def config_file() -> Path:
    """Where profiles are kept, by the XDG base directory specification."""
    home = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(home).expanduser() / "asana-exports" / "config.toml"


def chosen(url: str | None, profile: str | None) -> Profile:
    """What is meant: an option goes before the environment, that before the file. Raises `ConfigError`.

    A key belongs to the address that it was given with: another address takes none from the file.
    """
    name = profile or os.environ.get(PROFILE) or DEFAULT
    stored = profiles()
    if profile and name not in stored:
        raise ConfigError(f"There is no profile {name!r}. Make it: asana-exports login --profile {name}")
    saved = stored.get(name, {})
    # A profile that is asked for by an option is meant, whatever the environment says.
    given = {} if profile else os.environ
    address = url or given.get(URL) or saved.get("url")
    if not address:
        raise ConfigError(f"Which service? Log in once, by `asana-exports login`, or set {URL} and {KEY}.")
    if key := given.get(KEY):
        return Profile(name, address, key, KEY)
    if (key := saved.get("key")) and same(address, saved.get("url", "")):
        return Profile(name, address, key, str(config_file()))
    raise ConfigError(f"There is no key for {address}. Log in, by `asana-exports login`, or set {KEY}.")


def profiles() -> dict[str, dict[str, str]]:
    """What is stored, by name. Raises `ConfigError`."""
    return _profiles_in(_read())


def save(name: str, url: str, key: str) -> Path:
    """Keep a profile, for nobody else to read. Raises `ConfigError` and `OSError`."""
    content = _read()
    content["profiles"] = {**_profiles_in(content), name: {"url": url, "key": key}}
    return _write(content)


def forget(name: str) -> bool:
    """Take a profile out; whether there was one. Raises `ConfigError` and `OSError`."""
    content = _read()
    if _profiles_in(content).get(name) is None:
        return False
    del content["profiles"][name]
    _write(content)
    return True


def same(one: str, other: str) -> bool:
    return one.rstrip("/") == other.rstrip("/")


def _profiles_in(content: dict[str, Any]) -> dict[str, dict[str, str]]:
    try:
        return msgspec.convert(content.get("profiles", {}), dict[str, dict[str, str]])
    except msgspec.ValidationError as error:
        raise ConfigError(f"{config_file()}: {error} of the profiles") from None


def _read() -> dict[str, Any]:
    path = config_file()
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from None


def _write(content: dict[str, Any]) -> Path:
    path = config_file()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        # Never for a moment readable by others, and never half written.
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            tomli_w.dump(content, file)
        new.replace(path)
    finally:
        with suppress(FileNotFoundError):
            new.unlink()
    return path
