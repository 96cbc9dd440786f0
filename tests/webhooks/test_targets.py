"""Webhooks go where they may and nowhere else, whatever a name resolves to, and when."""

import asyncio
import ssl
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

import httpx
import pytest
from pydantic import ValidationError

from app.settings import Settings
from app.webhooks.targets import Address, TargetPolicy, TargetRefused, webhook_client
from tests.certificates import a_certificate
from tests.servers import always, answer, serving

THIS = "0.0.0.0"  # noqa: S104
PUBLIC = TargetPolicy(("public",))
INTERNAL = TargetPolicy(("10.0.0.0/8", "fd00::/8", "*.corp.example", "hooks"), allow_http=True)


def check(policy: TargetPolicy, host: str, *addresses: str) -> None:
    policy.check(host, [ip_address(address) for address in addresses])


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1::1", "::ffff:93.184.216.34"])
def test_public_addresses_are_allowed_by_default(address: str) -> None:
    check(PUBLIC, "hooks.example.com", address)


@pytest.mark.parametrize(
    "address",
    [
        "10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "127.0.0.1", "169.254.169.254", THIS,
        "224.0.0.1", "239.1.2.3", "255.255.255.255", "240.0.0.1", "192.0.2.1", "100.100.100.200", "::1", "::",
        "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "ff02::1", "::ffff:127.0.0.1",
        "::ffff:169.254.169.254", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::", "2002:a00:1::", "2001:0:4136:e378:8000:63bf:f5ff:fffe",
    ],
)  # fmt: skip
def test_nothing_else_is_allowed_by_default(address: str) -> None:
    with pytest.raises(TargetRefused, match=r"hooks\.example\.com"):
        check(PUBLIC, "hooks.example.com", address)


def test_a_list_allows_networks_and_hosts_and_only_those() -> None:
    check(INTERNAL, "anything.example.org", "10.9.8.7", "::ffff:10.1.1.1")
    check(INTERNAL, "a.corp.example", "192.168.1.1")
    check(INTERNAL, "hooks", "172.16.0.1", "93.184.216.34")
    for host, address in (
        ("corp.example", "192.168.1.1"),
        ("a.corp.example.org", "192.168.1.1"),
        ("anything.example.org", "93.184.216.34"),
        ("anything.example.org", "192.168.1.1"),
    ):
        with pytest.raises(TargetRefused):
            check(INTERNAL, host, address)


@pytest.mark.parametrize("address", ["169.254.169.254", "fe80::1", THIS, "::", "224.0.0.1", "fd00:ec2::254"])
def test_no_list_allows_what_answers_for_the_machine_itself(address: str) -> None:
    everything = TargetPolicy(("public", "0.0.0.0/0", "::/0", "*.corp.example"))
    with pytest.raises(TargetRefused):
        check(everything, "a.corp.example", address)


def test_only_a_network_allows_this_machine() -> None:
    with pytest.raises(TargetRefused):
        check(INTERNAL, "a.corp.example", "127.0.0.1")
    check(TargetPolicy(("127.0.0.0/8",)), "localhost", "127.0.0.1", "::ffff:127.0.0.1")


def test_one_refused_address_among_several_is_enough() -> None:
    with pytest.raises(TargetRefused, match=r"10\.0\.0\.1"):
        check(PUBLIC, "hooks.example.com", "93.184.216.34", "10.0.0.1")
    with pytest.raises(TargetRefused, match="no address"):
        check(PUBLIC, "hooks.example.com")


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://hooks.example.com/", "https://"),
        ("ftp://hooks.example.com/", "https://"),
        ("https://user:word@hooks.example.com/", "user name"),
        ("https://hooks.example.com/#part", "fragment"),
        ("https://127.0.0.1/", "127.0.0.1"),
        ("https://[::1]:8443/", "::1"),
        ("https://[::ffff:10.0.0.1]/", "10.0.0.1|a00:1"),
        ("https://169.254.169.254/latest/meta-data", "169.254.169.254"),
        ("https:///path", "host"),
    ],
)
def test_what_can_be_told_without_looking_up_a_name_is_told(url: str, why: str) -> None:
    with pytest.raises(TargetRefused, match=why):
        PUBLIC.check_url(httpx.URL(url))


def test_plain_http_is_for_those_who_allow_it() -> None:
    INTERNAL.check_url(httpx.URL("http://a.corp.example:8080/hook?x=1"))
    PUBLIC.check_url(httpx.URL("https://hooks.example.com/hook?x=1"))


@pytest.mark.parametrize(
    "entry", ["10.0.0.1/8", "http://hooks", "Hooks", "*", "*.*.example", "10.0.0.1", "a b"]
)
def test_a_list_that_cannot_be_meant_is_refused(entry: str, tmp_path: Path) -> None:
    with pytest.raises(ValidationError):
        Settings(data_dir=tmp_path, webhook_allow=("public", entry))


class Names:
    """Answers what a name resolves to, another each time."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, int]] = []

    async def __call__(self, host: str, port: int) -> Sequence[Address]:
        self.asked.append((host, port))
        return [ip_address(address) for address in self.answers.pop(0)]


def told(tmp_path: Path, **settings: object) -> Settings:
    return Settings(data_dir=tmp_path, webhook_timeout_seconds=5).model_copy(update=settings)


async def test_the_address_that_was_checked_is_the_one_connected_to(tmp_path: Path) -> None:
    """A name that is given another address at a second look (DNS rebinding) gets nobody anywhere."""
    settings = told(tmp_path, webhook_allow=("127.0.0.1/32",), webhook_allow_http=True)
    names = Names(["127.0.0.1"], ["127.0.0.2"])
    async with serving(always(answer(204))) as server, webhook_client(settings, names) as http:
        port = httpx.URL(server.url).port
        first = await http.post(f"http://rebound.example:{port}/hook")
        assert (first.status_code, server.requests[0].headers["host"]) == (204, f"rebound.example:{port}")
        assert names.asked == [("rebound.example", port)]
        with pytest.raises(TargetRefused, match=r"127\.0\.0\.2"):
            await http.post(f"http://rebound.example:{port}/hook")
        assert len(server.requests) == 1


async def test_addresses_are_tried_in_turn(tmp_path: Path) -> None:
    settings = told(tmp_path, webhook_allow=("127.0.0.0/8",), webhook_allow_http=True)
    async with (
        serving(always(answer(204))) as server,
        webhook_client(settings, Names(["127.0.0.3", "127.0.0.1"])) as http,
    ):
        port = httpx.URL(server.url).port
        assert (await http.post(f"http://two.example:{port}/", content=b"once")).status_code == 204
        assert [request.body for request in server.requests] == [b"once"]


async def test_what_has_no_address_is_not_found(tmp_path: Path) -> None:
    async with webhook_client(told(tmp_path)) as http:
        for host in ("nowhere.invalid", f"{'x' * 64}.example"):
            with pytest.raises(httpx.ConnectError, match="not found"):
                await http.post(f"https://{host}/")


async def test_certificates_are_checked_by_name_though_the_address_is_connected_to(tmp_path: Path) -> None:
    certificate, served = a_certificate("hooks.corp.example", tmp_path)
    settings = told(tmp_path, webhook_allow=("127.0.0.0/8",))
    async with serving(always(answer(204)), served) as server:
        port = httpx.URL(server.url).port
        address = f"https://hooks.corp.example:{port}/hook"
        async with webhook_client(settings, Names(["127.0.0.1"])) as http:
            with pytest.raises(httpx.ConnectError, match="self-signed certificate"):
                await http.post(address)
        trusting = settings.model_copy(update={"webhook_ca_file": certificate})
        async with webhook_client(trusting, Names(["127.0.0.1"], ["127.0.0.1"])) as http:
            assert (await http.post(address)).status_code == 204
            with pytest.raises(httpx.ConnectError, match=r"not valid for 'other\.corp\.example'"):
                await http.post(f"https://other.corp.example:{port}/hook")


async def test_a_connection_is_not_used_for_another_name(tmp_path: Path) -> None:
    """By its address it would be found, but the certificate on it was checked for the first name."""
    certificate, served = a_certificate("hooks.corp.example", tmp_path)
    settings = told(tmp_path, webhook_allow=("127.0.0.0/8",), webhook_ca_file=certificate)

    async def keep_open(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(b"HTTP/1.1 204 Fine\r\n\r\n")
        writer.close()

    listener = await asyncio.start_server(keep_open, "127.0.0.1", 0, ssl=served)
    port = listener.sockets[0].getsockname()[1]
    async with listener, webhook_client(settings, Names(["127.0.0.1"], ["127.0.0.1"])) as http:
        assert (await http.post(f"https://hooks.corp.example:{port}/")).status_code == 204
        with pytest.raises(httpx.ConnectError, match="not valid for"):
            await http.post(f"https://other.corp.example:{port}/")
