"""Who may do what: API keys of the prediction routes, and the token of the administration.

Secrets are kept and compared as hashes, in a time that tells nothing of how much of one was right.
"""

from collections.abc import Iterable
from hashlib import sha256
from hmac import compare_digest

from pydantic import SecretStr

from service.errors import UnauthorizedError
from service.settings import Settings

_SCHEME = b"bearer "


class Secrets:
    """A set of secrets, any of which opens the door.

    Args:
        secrets: At least one.
        what: What a client has to send, for errors.
        header: Header that may hold a secret, besides ``Authorization: Bearer``; lower case.
    """

    def __init__(self, secrets: Iterable[SecretStr], what: str, header: bytes | None = None) -> None:
        self._digests = tuple(sha256(secret.get_secret_value().encode()).digest() for secret in secrets)
        self._what = what
        self._header = header

    def check(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Let a request with these headers pass.

        Raises:
            UnauthorizedError: It has no secret, or a wrong one.
        """
        for name, value in headers:
            if name == b"authorization" and value[: len(_SCHEME)].lower() == _SCHEME:
                given = value[len(_SCHEME) :].strip()
            elif name == self._header:
                given = value
            else:
                continue
            digest = sha256(given).digest()
            # Every one, even after a hit.
            if sum(compare_digest(digest, known) for known in self._digests):
                return
        raise UnauthorizedError(f"This route needs {self._what}. Received: none, or a wrong one.")


def api_keys(settings: Settings) -> Secrets | None:
    """The keys that predictions need, if any."""
    if not settings.api_keys:
        return None
    return Secrets(settings.api_keys, "an API key, as Authorization: Bearer KEY or X-API-Key", b"x-api-key")
