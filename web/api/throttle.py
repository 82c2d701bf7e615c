"""How often one address may call. Counted per process, in memory: it dampens a flood, it is no accounting."""

from __future__ import annotations

import time
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network
from weakref import WeakKeyDictionary

from aiohttp import web
from limits import parse
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import MovingWindowRateLimiter

from consult.errors import TooMany
from web.origin import client_address, is_direct_loopback


@dataclass(frozen=True, slots=True)
class Rate:
    """`name` is the counter; `limit` as the limits library writes it, e.g. "60/minute"."""

    name: str
    limit: str


READ = Rate("read", "600/minute")
BOOK = Rate("book", "30/minute")
CHANGE = Rate("change", "60/minute")
API = Rate("api", "1200/minute")
MEDIA = Rate("media", "240/minute")

_LIMITS = {rate.name: parse(rate.limit) for rate in (READ, BOOK, CHANGE, API, MEDIA)}
_limiters: WeakKeyDictionary[web.Application, MovingWindowRateLimiter] = WeakKeyDictionary()


async def throttle(request: web.Request, rate: Rate) -> None:
    """Count one call. Raises TooMany.

    A caller on this machine is not limited: a proxy that does not tell its callers apart would make them all one.
    """
    if is_direct_loopback(request):
        return
    limiter = _limiters.get(request.app)
    if limiter is None:
        limiter = _limiters[request.app] = MovingWindowRateLimiter(MemoryStorage())
    caller = network_of(client_address(request))
    if not await limiter.hit(_LIMITS[rate.name], rate.name, caller):
        window = await limiter.get_window_stats(_LIMITS[rate.name], rate.name, caller)
        raise TooMany(max(1, int(window.reset_time - time.time())))


def network_of(address: str) -> str:
    """The key an address counts under. IPv6 counts by /64: that is what one customer gets (RFC 6177)."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return "unknown"
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ip_network((parsed, 64), strict=False))
    return str(parsed)
