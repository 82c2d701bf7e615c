"""Media connections of devices (WHIP, WHEP) that this process has answered: their URLs and ETags (RFC 9725)."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal
from weakref import WeakKeyDictionary

from aiohttp import web

from media.api import Direction

Protocol = Literal["whip", "whep"]
DEVICES_MAX = 10_000


@dataclass(slots=True)
class Device:
    """One connection. `etag` names its ICE session: a restart gives it a new one."""

    id: str
    consultation: str
    participant: str
    protocol: Protocol
    etag: str

    @property
    def direction(self) -> Direction:
        return "publish" if self.protocol == "whip" else "subscribe"

    @property
    def path(self) -> str:
        return f"/{self.protocol}/{self.consultation}/session/{self.id}"


class Devices:
    """By id. A participant has one connection of each protocol: a new one takes the place of the old."""

    def __init__(self) -> None:
        self._devices: OrderedDict[str, Device] = OrderedDict()

    def add(self, protocol: Protocol, consultation: str, participant: str) -> Device:
        for other in [one for one in self._devices.values() if one.participant == participant]:
            if other.protocol == protocol:
                del self._devices[other.id]
        device = Device(secrets.token_urlsafe(18), consultation, participant, protocol, new_etag())
        self._devices[device.id] = device
        while len(self._devices) > DEVICES_MAX:
            self._devices.popitem(last=False)
        return device

    def get(self, protocol: Protocol, consultation: str, id: str) -> Device | None:
        device = self._devices.get(id)
        if device is None or (device.protocol, device.consultation) != (protocol, consultation):
            return None
        return device

    def has(self, participant: str) -> bool:
        """Whether the participant has a connection here."""
        return any(one.participant == participant for one in self._devices.values())

    def remove(self, device: Device) -> bool:
        """Forget it; whether the participant has no other connection left."""
        self._devices.pop(device.id, None)
        return not self.has(device.participant)


_devices: WeakKeyDictionary[web.Application, Devices] = WeakKeyDictionary()


def devices_of(app: web.Application) -> Devices:
    return _devices.setdefault(app, Devices())


def new_etag() -> str:
    return f'"{secrets.token_urlsafe(12)}"'
