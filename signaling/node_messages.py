"""What processes tell each other by mail (signaling/directory.py). Encoded as MessagePack; never stored."""

from __future__ import annotations

import msgspec

from media.api import RelayEvent
from signaling.admission import Grant
from signaling.messages import EndReason, Id
from signaling.relay_commands import RelayCommand


class _Mail(msgspec.Struct, frozen=True, kw_only=True, tag_field="mail"):
    pass


# ---- a socket on one node, its room on another ----------------------------------------------------------------------


class Frame(_Mail, frozen=True, kw_only=True, tag="frame"):
    """Edge → owner: a text frame of the browser. `node`: the edge."""

    link: str
    node: str
    data: str


class Lost(_Mail, frozen=True, kw_only=True, tag="lost"):
    """Edge → owner: the socket is gone."""

    link: str


class Deliver(_Mail, frozen=True, kw_only=True, tag="deliver"):
    """Owner → edge: a frame for the browser."""

    link: str
    data: bytes


class Cut(_Mail, frozen=True, kw_only=True, tag="cut"):
    """Owner → edge: close the socket after what was delivered."""

    link: str
    code: int


class RelayNews(_Mail, frozen=True, kw_only=True, tag="relay_news"):
    """Relay → owner of the event's room. `node` and `instance` are the relay's."""

    node: str
    instance: str
    event: RelayEvent


class AdoptRoom(_Mail, frozen=True, kw_only=True, tag="adopt_room"):
    """Owner → relay: from here on the room's events are for `node`, who holds the lease with this fence."""

    node: str
    instance: str
    room: str
    fence: int


# ---- questions; each is answered by a Reply -------------------------------------------------------------------------


class JoinRoom(msgspec.Struct, frozen=True, kw_only=True, tag="join_room"):
    link: str
    grant: Grant
    microphone: bool
    camera: bool


class ResumeRoom(msgspec.Struct, frozen=True, kw_only=True, tag="resume_room"):
    link: str
    consultation: str
    participant: str
    secret: str
    last_chat: Id | None


class ListWaiting(msgspec.Struct, frozen=True, kw_only=True, tag="list_waiting"):
    """Result: JSON of {consultation: [[participant, name, since], …]}."""

    consultations: list[str]


class EndRoom(msgspec.Struct, frozen=True, kw_only=True, tag="end_room"):
    consultation: str
    reason: EndReason


class RemoveParticipant(msgspec.Struct, frozen=True, kw_only=True, tag="remove_participant"):
    consultation: str
    participant: str
    reason: EndReason


class AttachDevice(msgspec.Struct, frozen=True, kw_only=True, tag="attach_device"):
    grant: Grant


class DetachDevice(msgspec.Struct, frozen=True, kw_only=True, tag="detach_device"):
    consultation: str
    participant: str


class DeviceCommand(msgspec.Struct, frozen=True, kw_only=True, tag="device_command"):
    command: RelayCommand


class RelayRequest(msgspec.Struct, frozen=True, kw_only=True, tag="relay_request"):
    """Owner → relay. `instance`: the relay that is meant; `fence`: of the room's lease."""

    instance: str
    fence: int
    command: RelayCommand


Question = (
    JoinRoom
    | ResumeRoom
    | ListWaiting
    | EndRoom
    | RemoveParticipant
    | AttachDevice
    | DetachDevice
    | DeviceCommand
    | RelayRequest
)


class Ask(_Mail, frozen=True, kw_only=True, tag="ask"):
    id: str
    node: str  # who asks
    question: Question


class Reply(_Mail, frozen=True, kw_only=True, tag="reply"):
    """`error` empty: it was done."""

    id: str
    result: str = ""
    error: str = ""
    detail: str = ""


Mail = Frame | Lost | Deliver | Cut | RelayNews | AdoptRoom | Ask | Reply
