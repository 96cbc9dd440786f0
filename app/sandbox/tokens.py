"""Who may call, and how often."""

from collections import defaultdict
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from app.sandbox.refusals import Refused, forbidden
from app.sandbox.settings import Gid

SERVICE_TOKEN = "sandbox-service-token"  # noqa: S105
USER_TOKEN = "sandbox-user-token"  # noqa: S105


class TokenKind(StrEnum):
    """What a token may do: only service accounts start resource exports."""

    SERVICE_ACCOUNT = "service_account"
    USER = "user"
    REVOKED = "revoked"


class Token(BaseModel):
    """A token that the stand-in accepts."""

    model_config = ConfigDict(extra="forbid")

    token: str = Field(min_length=1)
    name: str = Field(min_length=1, description="What the journal calls it; the token itself is never shown.")
    kind: TokenKind = TokenKind.SERVICE_ACCOUNT
    workspaces: list[Gid] | None = Field(None, description="Where it has access; everywhere, when null.")
    sees: float = Field(1.0, ge=0, le=1, description="The share of the objects it has access to.")

    def enter(self, workspace: str, field: str = "workspace") -> None:
        """Refuse a workspace that the token has no access to."""
        if self.workspaces is not None and workspace not in self.workspaces:
            raise forbidden(field)


class TokenView(BaseModel):
    """A token without its secret."""

    name: str
    kind: TokenKind
    workspaces: list[str] | None
    sees: float


class Tokens:
    """The tokens by their secret and by their name."""

    def __init__(self) -> None:
        self._by_secret: dict[str, Token] = {}
        self.add(Token(token=SERVICE_TOKEN, name="service"))
        self.add(Token(token=USER_TOKEN, name="user", kind=TokenKind.USER, sees=0.9))

    def add(self, token: Token) -> None:
        """Accept a token; one with the same secret is replaced."""
        self._by_secret[token.token] = token

    def revoke(self, name: str) -> bool:
        """Answer 401 to the tokens of this name from now on."""
        named = [token for token in self._by_secret.values() if token.name == name]
        for token in named:
            token.kind = TokenKind.REVOKED
        return bool(named)

    def name_of(self, authorization: str | None) -> str | None:
        """The name behind an Authorization header, also of a revoked token."""
        token = self._find(authorization)
        return token.name if token else None

    def authenticate(self, authorization: str | None) -> Token:
        """The token behind an Authorization header."""
        token = self._find(authorization)
        if token is None or token.kind is TokenKind.REVOKED:
            raise Refused(401)
        return token

    def views(self) -> list[TokenView]:
        """All tokens, without their secrets."""
        return [TokenView.model_validate(t.model_dump(exclude={"token"})) for t in self._by_secret.values()]

    def _find(self, authorization: str | None) -> Token | None:
        scheme, _, secret = (authorization or "").partition(" ")
        return self._by_secret.get(secret.strip()) if scheme.lower() == "bearer" else None


class RateLimit:
    """Requests per token and minute. Refused ones count, so that hammering does not help."""

    def __init__(self) -> None:
        self._minute = 0
        self._used: defaultdict[str, int] = defaultdict(int)

    def count(self, token: Token, limit: int | None, now: float) -> float | None:
        """Count a request; the seconds until it is allowed, when it is one too many."""
        minute = int(now // 60)
        if minute != self._minute:
            self._minute = minute
            self._used.clear()
        self._used[token.name] += 1
        return (minute + 1) * 60 - now if limit is not None and self._used[token.name] > limit else None
