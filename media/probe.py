"""The relay's proof to itself that its port works: a connectivity check through the real socket and back."""

from __future__ import annotations

import asyncio
import os
import socket

from media import stun
from media.ice import IceAgent, IceLite

# Not a transport of anybody: rooms count from 1.
PROBE_TRANSPORT = 0
_ANSWER_WITHIN_S = 1.0


class SelfProbe:
    """Checks one bound address with credentials of its own. The last result stays readable."""

    def __init__(self, ice: IceLite, target: tuple[str, int]) -> None:
        self._agent: IceAgent = ice.add(PROBE_TRANSPORT)
        self._target = target
        self.succeeded_at: float | None = None
        self.failures = 0

    async def check(self, now: float) -> bool:
        """One check; True when it was answered, rightly signed, within a second."""
        family = socket.AF_INET6 if ":" in self._target[0] else socket.AF_INET
        credentials = self._agent.credentials
        key = credentials.password.encode("ascii")
        transaction_id = os.urandom(12)
        request = stun.binding_request(transaction_id, f"{credentials.ufrag}:probe", key)
        loop = asyncio.get_running_loop()
        answered = False
        with socket.socket(family, socket.SOCK_DGRAM) as prober:
            prober.setblocking(False)
            prober.bind((self._target[0], 0))
            try:
                async with asyncio.timeout(_ANSWER_WITHIN_S):
                    # not loop.sock_sendto: uvloop has none, and a datagram never waits
                    prober.sendto(request, self._target)
                    while not answered:
                        answered = _answers(await loop.sock_recv(prober, 2048), transaction_id, key)
            except (TimeoutError, OSError):
                answered = False
        if answered:
            self.succeeded_at = now
        else:
            self.failures += 1
        return answered


def _answers(data: bytes, transaction_id: bytes, key: bytes) -> bool:
    try:
        message = stun.parse(data)
    except stun.MalformedStun:
        return False
    return (
        message.type == stun.BINDING_SUCCESS and message.transaction_id == transaction_id and message.has_integrity(key)
    )
