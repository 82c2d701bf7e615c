"""How often somebody may try: sign-ins, codes, and other things worth guessing or flooding.

Counted per account and per address in Redis, or in this process without one. Redis may fail at any moment: then this
process counts alone. What is stored is a keyed hash, so neither addresses nor e-mails lie in Redis.
"""

from __future__ import annotations

import ipaddress
import logging
import math
import time
from collections.abc import Iterable
from dataclasses import dataclass

from limits import RateLimitItem, parse
from limits.aio.storage import MemoryStorage, RedisStorage, Storage
from limits.aio.strategies import MovingWindowRateLimiter
from redis.exceptions import RedisError

from consult.errors import TooMany
from consult.privacy.vault import Vault

logger = logging.getLogger(__name__)

REDIS_TIMEOUT_SECONDS = 1.0
# after a failure nobody else waits for the same timeout
REDIS_RETRY_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Limit:
    """`per` names what is counted (account, address, …); `rate` is in the notation of limits, e.g. "5/15 minutes"."""

    action: str
    per: str
    rate: str


# An account takes few tries from one address, more from everywhere together: an attacker elsewhere can slow the
# owner down but needs many addresses to lock the account, and no single address tries many accounts.
SIGN_IN = (
    Limit("sign_in", "account_from_address", "5/5 minutes"),
    Limit("sign_in", "account", "30/hour"),
    Limit("sign_in", "address", "50/15 minutes"),
)
CODE = (Limit("code", "account", "5/5 minutes"), Limit("code", "address", "50/15 minutes"))


class Attempts:
    """One per process."""

    def __init__(self, vault: Vault, redis_url: str | None = None) -> None:
        self._vault = vault
        self._alone = MovingWindowRateLimiter(MemoryStorage())
        self._shared: MovingWindowRateLimiter | None = None
        if redis_url is not None:
            storage: Storage = RedisStorage(
                f"async+{redis_url}".replace("async+unix", "async+redis+unix"),
                implementation="redispy",
                key_prefix="consult:attempts",
                socket_timeout=REDIS_TIMEOUT_SECONDS,
                socket_connect_timeout=REDIS_TIMEOUT_SECONDS,
            )
            self._shared = MovingWindowRateLimiter(storage)
        self._alone_until = 0.0
        self._items: dict[str, RateLimitItem] = {}

    async def spend(self, limits: Iterable[Limit], **who: str) -> None:
        """Count one try against every limit, `who` by name: spend(CODE, account=…, address=…). The address is an IP
        address; `account_from_address` is made from the two. Raises TooMany when any of them is used up."""
        names = dict(who)
        if "address" in names:
            names["address"] = network_of(names["address"])
        if "account" in names and "address" in names:
            names["account_from_address"] = f"{names['account']} {names['address']}"
        waits = [await self._hit(limit, names[limit.per]) for limit in limits if limit.per in names]
        longest = max(waits, default=0)
        if longest > 0:
            raise TooMany(longest)

    async def forgive(self, limits: Iterable[Limit], **who: str) -> None:
        """A try was right: the account's own counts start anew (the address's stay)."""
        names = dict(who)
        if "account" in names and "address" in names:
            names["account_from_address"] = f"{names['account']} {network_of(names['address'])}"
        for limit in limits:
            if limit.per in ("account", "account_from_address") and limit.per in names:
                await self._clear(limit, names[limit.per])

    async def _hit(self, limit: Limit, name: str) -> int:
        """Seconds to wait, 0 when the try is allowed."""
        item, key = self._item(limit), self._key(limit, name)
        if self._shared is not None and time.monotonic() >= self._alone_until:
            try:
                return await _hit(self._shared, item, key)
            except (RedisError, OSError) as error:
                self._alone_until = time.monotonic() + REDIS_RETRY_SECONDS
                logger.warning("attempts are counted in this process only: %s", type(error).__name__)
        return await _hit(self._alone, item, key)

    async def _clear(self, limit: Limit, name: str) -> None:
        item, key = self._item(limit), self._key(limit, name)
        await self._alone.clear(item, key)
        if self._shared is not None and time.monotonic() >= self._alone_until:
            try:
                await self._shared.clear(item, key)
            except (RedisError, OSError) as error:
                logger.warning("attempts could not be cleared: %s", type(error).__name__)

    def _item(self, limit: Limit) -> RateLimitItem:
        item = self._items.get(limit.rate)
        if item is None:
            item = self._items[limit.rate] = parse(limit.rate)
        return item

    def _key(self, limit: Limit, name: str) -> str:
        return self._vault.capability(f"attempt/{limit.action}/{limit.per}", name.casefold())


async def _hit(limiter: MovingWindowRateLimiter, item: RateLimitItem, key: str) -> int:
    if await limiter.hit(item, key):
        return 0
    stats = await limiter.get_window_stats(item, key)
    # the limits library tells the reset in wall-clock seconds
    return max(1, math.ceil(stats.reset_time - time.time()))


def network_of(address: str) -> str:
    """The part of an address that one subscriber has: an IPv4 address, an IPv6 /64 (RFC 6177)."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
