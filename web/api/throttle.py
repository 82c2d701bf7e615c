"""How often one address may call. Counted per process, in memory: it dampens a flood, it is no accounting."""

from __future__ import annotations

import ipaddress
import time
from dataclasses import dataclass

from aiohttp import web
from limits import parse
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import MovingWindowRateLimiter

from consult.errors import TooMany


@dataclass(frozen=True, slots=True)
class Rate:
    """`name` is the counter; `limit` as the limits library writes it, e.g. "60/minute"."""

    name: str
    limit: str


READ = Rate("read", "600/minute")
BOOK = Rate("book", "30/minute")
CHANGE = Rate("change", "30/minute")
API = Rate("api", "1200/minute")
MEDIA = Rate("media", "240/minute")

THROTTLE: web.AppKey[MovingWindowRateLimiter] = web.AppKey("throttle")
_LIMITS = {rate.name: parse(rate.limit) for rate in (READ, BOOK, CHANGE, API, MEDIA)}


def install_throttle(app: web.Application) -> None:
    """Give the application its counters (called once while it is put together)."""
    app[THROTTLE] = MovingWindowRateLimiter(MemoryStorage())


async def throttle(request: web.Request, rate: Rate) -> None:
    """Count one call. Raises TooMany. IPv6 callers count by /64: that is what one customer gets (RFC 6177).

    Loopback is not limited: a proxy on this machine that does not tell its callers apart would make them all one.
    """
    limiter = request.app.get(THROTTLE)
    caller = caller_network(request.remote)
    if limiter is None or caller is None:
        return
    limit = _LIMITS[rate.name]
    if not await limiter.hit(limit, rate.name, caller):
        reset = await limiter.get_window_stats(limit, rate.name, caller)
        raise TooMany(max(1, int(reset.reset_time - time.time())))


def caller_network(remote: str | None) -> str | None:
    """The key an address counts under; None for loopback and unknown addresses (Unix sockets)."""
    try:
        address = ipaddress.ip_address((remote or "").partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if address.is_loopback:
        return None
    if address.version == 6:
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)
