"""Which service, and by which key."""

import os


def address(url: str | None, key: str | None) -> tuple[str, str]:
    """The URL and the key, from the environment where they are not given. Raises `ValueError`."""
    place = (url or _environment("ASANA_EXPORTS_URL")).strip()
    secret = (key or _environment("ASANA_EXPORTS_KEY")).strip()
    if not place.startswith(("https://", "http://")):
        raise ValueError(f"The URL has to begin with https:// or http://, not as {place!r}.")
    # httpx would show it in its error.
    if not (secret.isascii() and secret.isprintable()):
        raise ValueError("The key has characters that cannot be sent.")
    return place, secret


def _environment(name: str) -> str:
    if value := os.environ.get(name):
        return value
    raise ValueError(f"Give url and key, or set ASANA_EXPORTS_URL and ASANA_EXPORTS_KEY: {name} is not set.")
