"""Attempt limits: in this process, over Redis, and while Redis is away."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from consult.errors import TooMany
from consult.people.attempts import CODE, SIGN_IN, Attempts, Limit, network_of
from consult.privacy.keys import Keys
from consult.privacy.vault import Vault
from tests import servers

ONE = (Limit("look", "address", "3/hour"),)


@pytest.fixture(params=["alone", "redis", "redis away"])
def attempts(request: pytest.FixtureRequest) -> Attempts:
    vault = Vault(Keys.generate())
    if request.param == "alone":
        return Attempts(vault)
    if request.param == "redis":
        return Attempts(vault, request.getfixturevalue("redis_url"))
    return Attempts(vault, f"redis://127.0.0.1:{servers.free_port()}")


async def test_the_fourth_of_three_waits(attempts: Attempts) -> None:
    for _ in range(3):
        await attempts.spend(ONE, address="192.0.2.1")
    with pytest.raises(TooMany) as refused:
        await attempts.spend(ONE, address="192.0.2.1")
    assert 3_000 < refused.value.retry_after_seconds <= 3_601
    await attempts.spend(ONE, address="192.0.2.2")


async def test_an_account_is_guarded_against_one_address_and_against_many(attempts: Attempts) -> None:
    for _ in range(5):
        await attempts.spend(SIGN_IN, account="anna@example.org", address="192.0.2.1")
    with pytest.raises(TooMany):
        await attempts.spend(SIGN_IN, account="Anna@example.org", address="192.0.2.1")
    # the owner elsewhere still gets in …
    await attempts.spend(SIGN_IN, account="anna@example.org", address="198.51.100.7")
    # … until so many addresses tried that somebody is at work
    for number in range(30 - 7):
        await attempts.spend(SIGN_IN, account="anna@example.org", address=f"203.0.113.{number}")
    with pytest.raises(TooMany):
        await attempts.spend(SIGN_IN, account="anna@example.org", address="203.0.113.200")


async def test_one_address_does_not_try_many_accounts(attempts: Attempts) -> None:
    for number in range(50):
        await attempts.spend(SIGN_IN, account=f"person{number}@example.org", address="192.0.2.1")
    with pytest.raises(TooMany):
        await attempts.spend(SIGN_IN, account="somebody-else@example.org", address="192.0.2.1")


async def test_a_success_forgives_the_account_not_the_address(attempts: Attempts) -> None:
    for _ in range(5):
        await attempts.spend(CODE, account="p1", address="192.0.2.1")
    with pytest.raises(TooMany):
        await attempts.spend(CODE, account="p1", address="192.0.2.1")
    await attempts.forgive(CODE, account="p1", address="192.0.2.1")
    await attempts.spend(CODE, account="p1", address="192.0.2.1")


async def test_two_processes_share_their_counts(redis_url: str) -> None:
    keys = Keys.generate()
    first, second = Attempts(Vault(keys), redis_url), Attempts(Vault(keys), redis_url)
    await first.spend(ONE, address="192.0.2.1")
    await second.spend(ONE, address="192.0.2.1")
    await first.spend(ONE, address="192.0.2.1")
    with pytest.raises(TooMany):
        await second.spend(ONE, address="192.0.2.1")


async def test_redis_sees_no_address_and_no_account(redis_url: str) -> None:
    await Attempts(Vault(Keys.generate()), redis_url).spend(SIGN_IN, account="anna@example.org", address="192.0.2.1")
    async with Redis.from_url(redis_url) as client:
        keys = [key async for key in client.scan_iter()]
        assert keys
        dump = b"".join([key + (await client.dump(key) or b"") for key in keys])
    assert b"anna" not in dump
    assert b"192.0.2" not in dump


def test_one_subscriber_is_one_address() -> None:
    assert network_of("2001:db8:1:2:3:4:5:6") == network_of("2001:db8:1:2::1") == "2001:db8:1:2::/64"
    assert network_of("2001:db8:1:3::1") != network_of("2001:db8:1:2::1")
    assert network_of("::ffff:192.0.2.1") == network_of("192.0.2.1") == "192.0.2.1"
    assert network_of("unknown") == "unknown"
