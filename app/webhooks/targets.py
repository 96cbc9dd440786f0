"""Where webhooks may be sent: an allow-list, held against the addresses that a host has right now."""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path

import httpx

from app.settings import Settings

Address = IPv4Address | IPv6Address
# The addresses of a host, in the order in which to try them.
Resolve = Callable[[str, int], Awaitable[Sequence[Address]]]

PUBLIC = "public"
# No receiver is there, whatever a list allows: this network, the link (where clouds answer for the machine
# itself, with its secrets), groups, and the clouds' other addresses of that kind.
NEVER = tuple(
    map(
        ip_network,
        (
            "0.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "255.255.255.255/32", "100.100.100.200/32",
            "168.63.129.16/32", "192.0.0.0/24", "::/128", "fe80::/10", "fec0::/10", "ff00::/8",
            "fd00:ec2::254/128", "fd20:ce::254/128", "64:ff9b:1::/48",
        ),
    )
)  # fmt: skip
PORTS = {None, *range(1, 65536)}
# An IPv4 address in the last four bytes: translated (RFC 6052, RFC 2765), or IPv4-compatible (RFC 4291).
WRAPPED = tuple(map(ip_network, ("64:ff9b::/96", "::ffff:0:0:0/96", "::/96")))


class TargetRefused(Exception):
    """Nothing may be sent there."""


@dataclass(frozen=True)
class TargetPolicy:
    """The allow-list: `public`, networks and hosts (`*.` for any subdomain); and whether plain http is too.

    A host on the list may have private addresses, but those of this machine only a network allows.
    """

    allow: tuple[str, ...]
    allow_http: bool = False

    def check_url(self, url: httpx.URL) -> None:
        """What can be told before its host is looked up. Raises `TargetRefused`."""
        schemes = {"https", "http"} if self.allow_http else {"https"}
        if url.scheme not in schemes:
            raise TargetRefused(f"must begin with {' or '.join(f'{each}://' for each in sorted(schemes))}")
        if not url.host or "%" in url.host or url.port not in PORTS:
            raise TargetRefused("must name a host, and no port beyond 65535")
        if url.userinfo or url.fragment:
            raise TargetRefused("must have neither a user name nor a fragment")
        if literal := _literal(url.host):
            self.check(url.host, [literal])

    def check(self, host: str, addresses: Sequence[Address]) -> None:
        """All of them have to be allowed: any may be the one that answers. Raises `TargetRefused`."""
        if not addresses:
            raise TargetRefused(f"{host} has no address")
        for address in addresses:
            if not self._allows(host, meant(address)):
                raise TargetRefused(f"{host} is at {address}, where no webhooks may be sent")

    def _allows(self, host: str, address: Address) -> bool:
        if any(address in network for network in NEVER):
            return False
        if any(address in ip_network(entry) for entry in self.allow if "/" in entry):
            return True
        if address.is_loopback:
            return False
        names = (entry for entry in self.allow if "/" not in entry and entry != PUBLIC)
        return any(fnmatchcase(host, name) for name in names) or (PUBLIC in self.allow and address.is_global)


def meant(address: Address) -> Address:
    """An IPv4 address where IPv6 only wraps one: mapped, or for one of the ways to translate it."""
    if isinstance(address, IPv4Address):
        return address
    if any(address in network for network in WRAPPED) and int(address) > 1:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1] or address


def _ascii(url: httpx.URL) -> str:
    """The host as the DNS has it (RFC 5890): names that are decoded again may become another one."""
    return url.raw_host.decode("ascii")


def _literal(host: str) -> Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


async def resolve(host: str, port: int) -> Sequence[Address]:
    """The system's answer. Raises `OSError`, or `UnicodeError` for what cannot be a name."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(ip_address(place[0]) for *_, place in found))


class CheckedTransport(httpx.AsyncBaseTransport):
    """Connects to an address of the host that has been checked, and to no other.

    The host is looked up once for each request: a second answer could be another one than was checked. To
    TLS and to the receiver it goes by its name. No connection is used twice, for it would be found by its
    address, though another host's certificate had been checked on it. Raises `TargetRefused`.
    """

    def __init__(self, policy: TargetPolicy, trusted: ssl.SSLContext, resolve: Resolve = resolve) -> None:
        self._policy = policy
        self._resolve = resolve
        once = httpx.Limits(max_keepalive_connections=0)
        self._http = httpx.AsyncHTTPTransport(verify=trusted, trust_env=False, limits=once)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self._policy.check_url(request.url)
        host = _ascii(request.url)
        try:
            addresses = await self._resolve(host, request.url.port or 0)
        except (OSError, UnicodeError) as error:
            raise httpx.ConnectError(f"{host} was not found: {error}", request=request) from error
        self._policy.check(host, addresses)
        *others, last = addresses
        for address in others:
            try:
                return await self._send(request, address)
            except httpx.ConnectError:
                continue
        return await self._send(request, last)

    async def _send(self, request: httpx.Request, address: Address) -> httpx.Response:
        there = httpx.Request(
            request.method,
            request.url.copy_with(host=str(address)),
            headers=request.headers,
            stream=request.stream,
            extensions={**request.extensions, "sni_hostname": _ascii(request.url)},
        )
        return await self._http.handle_async_request(there)

    async def aclose(self) -> None:
        await self._http.aclose()


def trusted_authorities(more: Path | None) -> ssl.SSLContext:
    """The public ones, and those in a file."""
    context = httpx.create_ssl_context(trust_env=False)
    if more:
        context.load_verify_locations(more)
    return context


def target_policy(settings: Settings) -> TargetPolicy:
    """What the settings allow."""
    return TargetPolicy(settings.webhook_allow, settings.webhook_allow_http)


def webhook_client(settings: Settings, resolve: Resolve = resolve) -> httpx.AsyncClient:
    """A client that reaches only what may be reached."""
    trusted = trusted_authorities(settings.webhook_ca_file)
    transport = CheckedTransport(target_policy(settings), trusted, resolve)
    longest = settings.webhook_timeout_seconds
    return httpx.AsyncClient(transport=transport, timeout=longest, trust_env=False, follow_redirects=False)
