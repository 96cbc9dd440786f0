"""Headers that are added to answers as they go."""

from collections.abc import Callable

from starlette.datastructures import MutableHeaders
from starlette.types import Message, Send


def with_headers(send: Send, add: Callable[[MutableHeaders], None]) -> Send:
    """`send`, after `add` has changed the headers of an answer."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            add(MutableHeaders(scope=message))
        await send(message)

    return sending
