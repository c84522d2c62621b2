"""What a server allows: sizes, times, numbers; who may ask: hosts, origins, tokens. Floor 17."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from netwright.errors import ConfigError, SafetyError

SHORTEST_TOKEN = 16
LONGEST_TOKEN_FILE = 4096


@dataclass(frozen=True)
class Limits:
    """What one server takes.

    Args:
        max_body: Bytes of one body.
        timeout: Seconds for one request, from its head to its answer, and for a head to come.
        concurrency: Requests in work at a time; one more is answered 503.
    """

    max_body: int = 8 << 20
    timeout: float = 30.0
    concurrency: int = 1024

    @property
    def max_held(self) -> int:
        """Bytes of bodies that may be held in memory together."""
        return max(64 << 20, 8 * self.max_body)

    @property
    def max_drained(self) -> int:
        """Bytes of a refused body that are read and dropped, so that its sender can read the answer."""
        return max(128 << 20, 2 * self.max_body)


def is_loopback(host: str) -> bool:
    """Tell whether an address reaches this machine only.

    Example:
        >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0")
        (True, True, False)
    """
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def read_token(file: str | None, host: str) -> bytes | None:
    """Return the token that requests must carry; None where none is asked for.

    Args:
        file: A file with the token on its only line, or None.
        host: Where the server will listen.

    Raises:
        SafetyError: No token for an address that others reach.
        ConfigError: The file cannot be read, or holds no usable token.
    """
    if file is None:
        if not is_loopback(host):
            raise SafetyError(
                f"--host {host}: others could reach it, and no token came; expected --token-file FILE with a line of at least "
                f"{SHORTEST_TOKEN} characters, or --host 127.0.0.1; make one: python -c 'import secrets; "
                "print(secrets.token_urlsafe())' > token"
            )
        return None
    try:
        with Path(file).open("rb") as stream:
            token = stream.read(LONGEST_TOKEN_FILE + 1).strip()
    except OSError as error:
        raise ConfigError(f"--token-file {file}: {error.strerror}; expected a readable file; check the path") from None
    if not SHORTEST_TOKEN <= len(token) <= LONGEST_TOKEN_FILE or not all(33 <= byte <= 126 for byte in token):
        raise ConfigError(
            f"--token-file {file}: {len(token)} bytes came; expected one line of {SHORTEST_TOKEN} or more visible ASCII letters; "
            "make one: python -c 'import secrets; print(secrets.token_urlsafe())' > token"
        )
    return token


def is_authorized(headers: Mapping[bytes, bytes], token: bytes) -> bool:
    """Tell whether a request carries the token; compared in a time that does not depend on where they differ.

    Example:
        >>> is_authorized({b"authorization": b"Bearer abc"}, b"abc")
        True
    """
    scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
    return hmac.compare_digest(given.strip(), token) and scheme.lower() == b"bearer"


def names_of(host: str, port: int) -> frozenset[bytes]:
    """Return the Host headers that a browser on this machine would send to a loopback address.

    A page of another origin that points a name of its own here (DNS rebinding) sends that name.

    Example:
        >>> sorted(names_of("127.0.0.1", 80))[:2]
        [b'127.0.0.1', b'127.0.0.1:80']
    """
    hosts = {"localhost", "127.0.0.1", "[::1]", f"[{host}]" if ":" in host else host}
    found = {f"{name}:{port}" for name in hosts} | (hosts if port == 80 else set())
    return frozenset(name.lower().encode() for name in found)


def is_foreign(headers: Mapping[bytes, bytes]) -> bool:
    """Tell whether a browser sent the request for a page of another origin."""
    origin = headers.get(b"origin")
    if origin is None:
        return headers.get(b"sec-fetch-site", b"none") == b"cross-site"
    try:
        return urlsplit(origin.decode("latin-1")).netloc.lower() != headers.get(b"host", b"").decode("latin-1").lower()
    except ValueError:
        return True


def headers_by_name(headers: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes] | None:
    """Return headers by name; None where one that decides comes twice."""
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in found and name in (b"host", b"authorization", b"content-type", b"content-length", b"origin"):
            return None
        found[name] = value
    return found
