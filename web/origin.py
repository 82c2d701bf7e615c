"""Whose request is it: our own pages', another site's, and from which address."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

from aiohttp import web

from web.keys import SETTINGS

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


def is_loopback(address: str | None) -> bool:
    if not address:
        return False
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address == "localhost"
    mapped = getattr(parsed, "ipv4_mapped", None)
    return (mapped or parsed).is_loopback


def client_address(request: web.Request) -> str:
    """The peer's address for rate limits. A proxy on this machine tells the real one as the last X-Forwarded-For entry;
    from anybody else that header is ignored, because anybody can write it."""
    remote = request.remote or ""
    if is_loopback(remote):
        # a proxy may append to the visitor's own header or send a line of its own after it
        forwarded = ",".join(request.headers.getall("X-Forwarded-For", ())).rpartition(",")[2].strip()
        try:
            return str(ip_address(forwarded))
        except ValueError:
            return remote
    return remote


PROXY_HEADERS = ("X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP", "Forwarded", "Via")


def is_direct_loopback(request: web.Request) -> bool:
    """From this machine and not through a proxy.

    Where the public URL is not this machine's own name, a proxy stands in front, and one on this machine that adds no
    header makes everybody look local: then nobody is."""
    if urlsplit(request.app[SETTINGS].public_url).hostname not in LOOPBACK_NAMES:
        return False
    return is_loopback(request.remote) and not any(name in request.headers for name in PROXY_HEADERS)


def is_https(request: web.Request) -> bool:
    """Whether browsers reach us over https (the public URL decides: TLS may end at a proxy)."""
    return request.app[SETTINGS].public_url.startswith("https://")


def is_own_origin(request: web.Request, origin: str) -> bool:
    """`origin` is the public URL's, or a loopback name for the very host that was asked (development)."""
    public = urlsplit(request.app[SETTINGS].public_url)
    if origin == f"{public.scheme}://{public.netloc}":
        return True
    parsed = urlsplit(origin)
    return parsed.hostname in LOOPBACK_NAMES and parsed.netloc == request.host and parsed.scheme == "http"


def is_cross_site(request: web.Request) -> bool:
    """Another site's page makes this request. Every browser sends Origin with a POST (`null` from a sandboxed frame, so
    not ours), current ones Sec-Fetch-Site with everything; a request without both is not a browser's, so nobody's
    cookies are being borrowed."""
    origin = request.headers.get("Origin")
    if origin is not None:
        return not is_own_origin(request, origin)
    return request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none")
