"""Time-limited TURN credentials (draft-uberti-behave-turn-rest-00, section 2.2), as coturn's `use-auth-secret` checks
them: the username is "expiry:user", the password base64(HMAC-SHA1(secret, username))."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from signaling.messages import IceServer

LIFETIME = timedelta(minutes=10)

IceServersFor = Callable[[str, datetime], list[IceServer]]


def turn_credential(secret: str, participant: str, now: datetime) -> tuple[str, str]:
    """(username, password) for this participant, good for ten minutes. `now` is aware."""
    username = f"{int((now + LIFETIME).timestamp())}:{participant}"
    # SHA-1 is what the draft and every TURN server speak; HMAC-SHA1 itself is not broken.
    digest = hmac.new(secret.encode(), username.encode(), hashlib.sha1).digest()
    return username, base64.b64encode(digest).decode("ascii")


def ice_servers(urls: Sequence[str], secret: str | None) -> IceServersFor:
    """A function that lists the ICE servers for a participant: `stun:` URLs as they are, `turn:` and `turns:` URLs with
    a credential of their own. Without a secret TURN URLs are left out: the browser would refuse them."""
    stun = [url for url in urls if url.startswith(("stun:", "stuns:"))]
    turn = [url for url in urls if url.startswith(("turn:", "turns:"))]

    def servers(participant: str, now: datetime) -> list[IceServer]:
        result = [IceServer(urls=stun)] if stun else []
        if turn and secret:
            username, credential = turn_credential(secret, participant, now)
            result.append(IceServer(urls=turn, username=username, credential=credential))
        return result

    return servers
