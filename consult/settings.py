"""What the environment says, read once at start and frozen. A wrong variable stops the start with its name.

| variable | default | meaning |
|---|---|---|
| CONSULT_DATABASE_URL | SQLite under the data directory | sqlite:///PATH or postgresql://USER:PASSWORD@HOST/NAME |
| CONSULT_REDIS_URL | none: one process | redis://, rediss:// or unix:// |
| CONSULT_PUBLIC_URL | http://localhost:PORT | where browsers reach the pages; https except on this machine |
| CONSULT_MEDIA_PORT | 40000 | the relay's one UDP port |
| CONSULT_MEDIA_IP | the machine's own addresses | announced addresses, by comma |
| CONSULT_SMTP_URL | none: mails become files | smtp://USER:PASSWORD@HOST:PORT or smtps:// |
| CONSULT_MAIL_FROM | consult@ the public host | the sender's address |
| CONSULT_TURN_URLS, CONSULT_TURN_SECRET | none | turn:HOST:PORT?transport=udp by comma, and the shared secret |
| CONSULT_KEYS | DIR/keys.json, made at first start | the file with the key-encryption keys |
| CONSULT_METRICS_TOKEN | none: loopback only | bearer token of /metrics |
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, quote, urlencode, urlsplit

from consult.errors import SettingsError

DEFAULT_MEDIA_PORT = 40_000
MIN_SECRET_LENGTH = 16

_TURN = re.compile(
    r"^(?:turns?|stuns?):(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(?::(?P<port>\d{1,5}))?(?:\?transport=(?:udp|tcp))?$"
)
_MAILBOX = re.compile(r"^[^\s@<>,;:\"]+@[^\s@<>,;:\"]+$")


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything a process must know before it starts. Secrets are kept out of `repr`.

    database_url is a SQLAlchemy async URL. public_url has no trailing slash. keys_required: the file was named by
    CONSULT_KEYS, so it must exist; otherwise it is made under the data directory at the first start.
    """

    data_dir: Path
    host: str
    port: int
    database_url: str = field(repr=False)
    redis_url: str | None = field(repr=False)
    public_url: str
    media_port: int
    media_ips: tuple[str, ...]
    smtp_url: str | None = field(repr=False)
    mail_from: str
    turn_urls: tuple[str, ...]
    turn_secret: str | None = field(repr=False)
    keys_file: Path
    keys_required: bool
    metrics_token: str | None = field(repr=False)

    @classmethod
    def from_env(cls, env: Mapping[str, str], *, data_dir: Path, host: str = "127.0.0.1", port: int = 8080) -> Settings:
        """Read and check every CONSULT_ variable. Empty is the same as unset. Raises SettingsError."""
        values = {name: value.strip() for name, value in env.items() if value.strip()}
        turn_urls = _turn_urls(values)
        turn_secret = values.get("CONSULT_TURN_SECRET")
        if any(url.startswith("turn") for url in turn_urls) and turn_secret is None:
            raise SettingsError("CONSULT_TURN_SECRET", "needed with CONSULT_TURN_URLS: the TURN server's shared secret")
        public_url = _public_url(values, port)
        keys = values.get("CONSULT_KEYS")
        return cls(
            data_dir=data_dir,
            host=host,
            port=port,
            database_url=_database_url(values, data_dir),
            redis_url=_redis_url(values),
            public_url=public_url,
            media_port=_media_port(values),
            media_ips=_media_ips(values),
            smtp_url=_smtp_url(values),
            mail_from=_mail_from(values, public_url),
            turn_urls=turn_urls,
            turn_secret=turn_secret,
            keys_file=Path(keys) if keys else data_dir / "keys.json",
            keys_required=keys is not None,
            metrics_token=_metrics_token(values),
        )

    @property
    def is_https(self) -> bool:
        return self.public_url.startswith("https://")

    @property
    def public_host(self) -> str:
        """The public URL's host name without the port, e.g. for iCalendar UIDs and Message-IDs."""
        return urlsplit(self.public_url).hostname or "localhost"


def is_loopback(host: str) -> bool:
    """True for localhost (and its subdomains, RFC 6761) and loopback addresses."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _split(variable: str, value: str, expected: str) -> SplitResult:
    try:
        parts = urlsplit(value)
        parts.port  # noqa: B018  a property that raises for a port out of range
    except ValueError:
        raise SettingsError(variable, expected) from None
    return parts


def _database_url(values: Mapping[str, str], data_dir: Path) -> str:
    variable = "CONSULT_DATABASE_URL"
    expected = "expected sqlite:///PATH or postgresql://USER:PASSWORD@HOST:PORT/NAME"
    value = values.get(variable)
    if value is None:
        return f"sqlite+aiosqlite:///{quote(str(data_dir.absolute() / 'consult.sqlite3'))}"
    scheme, separator, rest = value.partition("://")
    if not separator:
        raise SettingsError(variable, expected)
    if scheme in {"sqlite", "sqlite+aiosqlite"}:
        # connections of a memory database do not see each other's tables
        if not rest.startswith("/") or rest == "/" or ":memory:" in rest or "mode=memory" in rest:
            raise SettingsError(variable, "expected a file: sqlite:///PATH (a memory database cannot be shared)")
        return f"sqlite+aiosqlite://{rest}"
    if scheme in {"postgresql", "postgres", "postgresql+asyncpg"}:
        parts = _split(variable, f"postgresql://{rest}", expected)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        if not parts.path.strip("/") or not (parts.hostname or "host" in query):
            raise SettingsError(variable, expected)
        if "sslmode" in query:  # libpq's name; asyncpg knows the same values as `ssl`
            query["ssl"] = query.pop("sslmode")
        return parts._replace(scheme="postgresql+asyncpg", query=urlencode(query)).geturl()
    raise SettingsError(variable, expected)


def _redis_url(values: Mapping[str, str]) -> str | None:
    variable = "CONSULT_REDIS_URL"
    expected = "expected redis://HOST:PORT/NUMBER, rediss://HOST or unix:///PATH"
    value = values.get(variable)
    if value is None:
        return None
    parts = _split(variable, value, expected)
    if parts.scheme in {"redis", "rediss"} and parts.hostname:
        if parts.path.strip("/") and not parts.path.strip("/").isdigit():
            raise SettingsError(variable, expected)
        return value
    if parts.scheme == "unix" and parts.path:
        return value
    raise SettingsError(variable, expected)


def _public_url(values: Mapping[str, str], port: int) -> str:
    variable = "CONSULT_PUBLIC_URL"
    expected = "expected https://HOST or https://HOST:PORT without a path (http:// only for localhost)"
    value = values.get(variable)
    if value is None:
        return f"http://localhost:{port}"
    parts = _split(variable, value, expected)
    host = parts.hostname
    if parts.scheme not in {"http", "https"} or not host or parts.username or parts.password:
        raise SettingsError(variable, expected)
    if parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise SettingsError(variable, expected)
    # browsers give camera and microphone to secure origins only
    if parts.scheme == "http" and not is_loopback(host):
        raise SettingsError(variable, expected)
    return f"{parts.scheme}://{parts.netloc.lower()}"


def _media_port(values: Mapping[str, str]) -> int:
    value = values.get("CONSULT_MEDIA_PORT")
    if value is None:
        return DEFAULT_MEDIA_PORT
    if not value.isascii() or not value.isdigit() or not 1 <= int(value) <= 65_535:
        raise SettingsError("CONSULT_MEDIA_PORT", "expected a UDP port from 1 to 65535")
    return int(value)


def _media_ips(values: Mapping[str, str]) -> tuple[str, ...]:
    found: list[str] = []
    for part in _items(values, "CONSULT_MEDIA_IP"):
        try:
            address = ipaddress.ip_address(part)
        except ValueError:
            address = None
        if address is None or address.is_unspecified or address.is_multicast:
            raise SettingsError("CONSULT_MEDIA_IP", "expected IP addresses that browsers can reach, by comma")
        found.append(str(address))
    return tuple(dict.fromkeys(found))


def _smtp_url(values: Mapping[str, str]) -> str | None:
    variable = "CONSULT_SMTP_URL"
    expected = "expected smtp://USER:PASSWORD@HOST:PORT or smtps://USER:PASSWORD@HOST:PORT"
    value = values.get(variable)
    if value is None:
        return None
    parts = _split(variable, value, expected)
    if parts.scheme not in {"smtp", "smtps"} or not parts.hostname or parts.path not in {"", "/"}:
        raise SettingsError(variable, expected)
    return value


def _mail_from(values: Mapping[str, str], public_url: str) -> str:
    value = values.get("CONSULT_MAIL_FROM")
    if value is None:
        return f"consult@{urlsplit(public_url).hostname}"
    if not _MAILBOX.match(value) or not value.isascii():
        raise SettingsError("CONSULT_MAIL_FROM", "expected one e-mail address, such as consult@example.org")
    return value


def _turn_urls(values: Mapping[str, str]) -> tuple[str, ...]:
    urls = _items(values, "CONSULT_TURN_URLS")
    for url in urls:
        match = _TURN.match(url)
        if match is None or not 1 <= int(match["port"] or 3478) <= 65_535:
            raise SettingsError("CONSULT_TURN_URLS", "expected turn:HOST:PORT?transport=udp or turns:HOST, by comma")
    return urls


def _metrics_token(values: Mapping[str, str]) -> str | None:
    value = values.get("CONSULT_METRICS_TOKEN")
    if value is not None and len(value) < MIN_SECRET_LENGTH:
        raise SettingsError("CONSULT_METRICS_TOKEN", f"expected at least {MIN_SECRET_LENGTH} characters")
    return value


def _items(values: Mapping[str, str], variable: str) -> tuple[str, ...]:
    return tuple(part for item in values.get(variable, "").split(",") if (part := item.strip()))
