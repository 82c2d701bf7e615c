"""The two ways a web process reaches rooms and relays: all in this process, or through Redis."""

from __future__ import annotations

import secrets
from urllib.parse import urlsplit

from consult.settings import Settings
from media.relay import LocalRelay
from media.settings import RelaySettings
from signaling.directory import LocalDirectory
from signaling.relay_pool import LocalPool
from web.keys import Connect


def relay_settings(settings: Settings) -> RelaySettings:
    """What the environment says about media, for one relay."""
    return RelaySettings(
        port=settings.media_port,
        announced_ips=settings.media_ips,
        turn_hosts=tuple(_host(url) for url in settings.turn_urls if url.startswith("turn")),
    )


def _host(turn_url: str) -> str:
    """turn:host:port?transport=udp → host (RFC 7065)."""
    return urlsplit(f"//{turn_url.partition(':')[2].partition('?')[0]}").hostname or ""


def connect_locally(relay: LocalRelay) -> Connect:
    """Everything in this process."""
    return Connect(
        directory=LocalDirectory("local", secrets.token_hex(8)),
        pool=LocalPool(relay),
        media_flows=relay.healthy,
        relay_snapshot=relay.snapshot,
    )
