"""How many tries a worker has under way to one receiver."""

from collections import Counter

from app.ids import EndpointId

AT_ONCE = 3


class Places:
    """A few for each receiver, so that one that lets each try hang takes no more of a worker than those.

    Who finds no place leaves what it came for to those that have one: each looks once more before it leaves
    when somebody has come since its last look.
    """

    def __init__(self, each: int = AT_ONCE) -> None:
        self._each = each
        self._taken = Counter[EndpointId]()
        self._turned_away = set[EndpointId]()

    def take(self, endpoint: EndpointId) -> bool:
        """Whether there was one."""
        if self._taken[endpoint] == self._each:
            self._turned_away.add(endpoint)
            return False
        self._taken[endpoint] += 1
        return True

    def look(self, endpoint: EndpointId) -> None:
        """Who was turned away before now is seen to by the look that begins."""
        self._turned_away.discard(endpoint)

    def somebody_came(self, endpoint: EndpointId) -> bool:
        """Whether somebody was turned away since the last look began."""
        return endpoint in self._turned_away

    def leave(self, endpoint: EndpointId) -> None:
        self._taken[endpoint] -= 1
        if not self._taken[endpoint]:
            del self._taken[endpoint]
            self._turned_away.discard(endpoint)
