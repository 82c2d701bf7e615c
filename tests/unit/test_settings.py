"""Settings: defaults that work, and for each variable what is accepted and what stops the start."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from consult.errors import SettingsError
from consult.settings import Settings, is_loopback

DATA = Path("/var/lib/consult data")


def read(**env: str) -> Settings:
    return Settings.from_env(env, data_dir=DATA)


def test_nothing_set_gives_a_local_server() -> None:
    settings = Settings.from_env({}, data_dir=DATA, host="127.0.0.1", port=8081)
    assert make_url(settings.database_url).database == "/var/lib/consult%20data/consult.sqlite3" or (
        make_url(settings.database_url).database == str(DATA / "consult.sqlite3")
    )
    assert settings.public_url == "http://localhost:8081"
    assert settings.public_host == "localhost"
    assert not settings.is_https
    assert settings.redis_url is None
    assert settings.smtp_url is None
    assert settings.media_port == 40_000
    assert settings.media_ips == ()
    assert settings.turn_urls == ()
    assert settings.keys_file == DATA / "keys.json"
    assert not settings.keys_required
    assert settings.mail_from == "consult@localhost"


def test_empty_is_unset() -> None:
    assert read(CONSULT_REDIS_URL="", CONSULT_MEDIA_PORT="  ") == read()


async def test_the_default_database_opens_in_a_directory_with_odd_characters(tmp_path: Path) -> None:
    from consult.db import Database

    directory = tmp_path / "a b#c%d?e"
    directory.mkdir()
    settings = Settings.from_env({}, data_dir=directory)
    database = Database(settings.database_url)
    async with database.write() as session:
        await session.connection()
    await database.close()
    assert (directory / "consult.sqlite3").exists()


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("sqlite:////srv/c.db", "sqlite+aiosqlite:////srv/c.db"),
        ("sqlite+aiosqlite:///c.db", "sqlite+aiosqlite:///c.db"),
        ("postgresql://u:p@db/consult", "postgresql+asyncpg://u:p@db/consult"),
        ("postgres://u:p@db:5433/consult", "postgresql+asyncpg://u:p@db:5433/consult"),
        ("postgresql+asyncpg://u@[::1]/consult", "postgresql+asyncpg://u@[::1]/consult"),
        ("postgresql://db/consult?sslmode=require", "postgresql+asyncpg://db/consult?ssl=require"),
    ],
)
def test_database_urls(given: str, url: str) -> None:
    assert read(CONSULT_DATABASE_URL=given).database_url == url


def test_a_public_url_is_an_origin() -> None:
    settings = read(CONSULT_PUBLIC_URL="https://Consult.Example.org:8443/")
    assert settings.public_url == "https://consult.example.org:8443"
    assert settings.public_host == "consult.example.org"
    assert settings.is_https
    assert settings.mail_from == "consult@consult.example.org"


def test_lists_are_split_and_cleaned() -> None:
    settings = read(
        CONSULT_MEDIA_IP=" 192.0.2.1, 2001:db8::0001 ,192.0.2.1,",
        CONSULT_TURN_URLS="turn:turn.example.org:3478?transport=udp, turns:turn.example.org",
        CONSULT_TURN_SECRET="a shared secret",
    )
    assert settings.media_ips == ("192.0.2.1", "2001:db8::1")
    assert settings.turn_urls == ("turn:turn.example.org:3478?transport=udp", "turns:turn.example.org")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("CONSULT_DATABASE_URL", "mysql://db/consult"),
        ("CONSULT_DATABASE_URL", "consult.db"),
        ("CONSULT_DATABASE_URL", "sqlite://"),
        ("CONSULT_DATABASE_URL", "sqlite:///:memory:"),
        ("CONSULT_DATABASE_URL", "postgresql://db"),
        ("CONSULT_DATABASE_URL", "postgresql://db:99999999/consult"),
        ("CONSULT_REDIS_URL", "localhost:6379"),
        ("CONSULT_REDIS_URL", "http://localhost"),
        ("CONSULT_REDIS_URL", "redis://localhost/consult"),
        ("CONSULT_PUBLIC_URL", "consult.example.org"),
        ("CONSULT_PUBLIC_URL", "https://example.org/consult"),
        ("CONSULT_PUBLIC_URL", "http://example.org"),
        ("CONSULT_PUBLIC_URL", "https://user:pass@example.org"),
        ("CONSULT_PUBLIC_URL", "https://example.org:port"),
        ("CONSULT_MEDIA_PORT", "0"),
        ("CONSULT_MEDIA_PORT", "65536"),
        ("CONSULT_MEDIA_PORT", "4000O"),
        ("CONSULT_MEDIA_PORT", "²"),
        ("CONSULT_MEDIA_IP", "media.example.org"),
        ("CONSULT_MEDIA_IP", "192.0.2.1;192.0.2.2"),
        ("CONSULT_MEDIA_IP", "0.0.0.0"),
        ("CONSULT_SMTP_URL", "mail.example.org"),
        ("CONSULT_SMTP_URL", "smtp://"),
        ("CONSULT_MAIL_FROM", "Consult <consult@example.org>"),
        ("CONSULT_MAIL_FROM", "consult@example.org\nBcc: x@example.org"),
        ("CONSULT_TURN_URLS", "turn.example.org"),
        ("CONSULT_TURN_URLS", "turn:turn.example.org:99999"),
        ("CONSULT_METRICS_TOKEN", "short"),
    ],
)
def test_a_wrong_variable_is_named(variable: str, value: str) -> None:
    with pytest.raises(SettingsError) as refused:
        read(**{variable: value})
    assert refused.value.variable == variable
    assert refused.value.expected
    assert str(refused.value).startswith(variable)


def test_a_turn_server_needs_its_secret() -> None:
    with pytest.raises(SettingsError) as refused:
        read(CONSULT_TURN_URLS="turn:turn.example.org")
    assert refused.value.variable == "CONSULT_TURN_SECRET"


def test_an_error_does_not_repeat_a_password() -> None:
    with pytest.raises(SettingsError) as refused:
        read(CONSULT_DATABASE_URL="postgresql://consult:hunter2secret@db")
    assert "hunter2secret" not in str(refused.value)


def test_repr_keeps_secrets() -> None:
    settings = read(
        CONSULT_DATABASE_URL="postgresql://u:secret-one@db/consult",
        CONSULT_REDIS_URL="redis://:secret-two@cache",
        CONSULT_SMTP_URL="smtp://u:secret-three@mail",
        CONSULT_TURN_SECRET="secret-four",
        CONSULT_METRICS_TOKEN="secret-five-is-long",
    )
    assert settings.turn_secret == "secret-four"
    assert "secret-" not in repr(settings)


@pytest.mark.parametrize("host", ["localhost", "app.localhost", "127.0.0.1", "127.9.9.9", "::1"])
def test_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "10.0.0.1", "localhost.example.org", "::", "example.org"])
def test_not_loopback(host: str) -> None:
    assert not is_loopback(host)
