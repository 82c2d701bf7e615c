"""Rooms wherever they live: in this process, or at the node that owns them (asked by mail)."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from datetime import datetime
from typing import Any, cast

import msgspec

from media.api import RelayError
from signaling.actor import RoomActor
from signaling.admission import Grant
from signaling.directory import Directory, DirectoryUnavailable, Lease
from signaling.messages import EndReason, ErrorCode
from signaling.node_messages import (
    AttachDevice,
    DetachDevice,
    DeviceCommand,
    EndRoom,
    JoinRoom,
    ListWaiting,
    Question,
    RemoveParticipant,
    ResumeRoom,
)
from signaling.post import NotAnswered, Post
from signaling.proxy import Edge, Owned
from signaling.relay_commands import RelayCommand
from signaling.room import JoinRefused
from signaling.rooms import Rooms, RoomUnavailable
from signaling.sockets import SocketLink

ANSWER_TIMEOUT_S = 3.0
# A relay command may wait for a placement and a handshake's first flight.
COMMAND_TIMEOUT_S = 8.0
RETRY_S = 0.2
# An owner who cannot be reached that often is dead, although its lease is not over yet.
UNREACHABLE_TRIES = 3
TRIES = 6

WaitingList = list[tuple[str, str, datetime]]


class Homes:
    def __init__(self, directory: Directory, post: Post, rooms: Rooms, owned: Owned, edge: Edge) -> None:
        self._directory = directory
        self._post = post
        self._rooms = rooms
        self._owned = owned
        self._edge = edge
        post.answer(JoinRoom, self._answer_join)
        post.answer(ResumeRoom, self._answer_resume)
        post.answer(ListWaiting, self._answer_waiting)
        post.answer(EndRoom, self._answer_end)
        post.answer(RemoveParticipant, self._answer_remove)
        post.answer(AttachDevice, self._answer_attach)
        post.answer(DetachDevice, self._answer_detach)
        post.answer(DeviceCommand, self._answer_command)

    # ---- asking -----------------------------------------------------------------------------------------------------

    async def join(self, link: SocketLink, grant: Grant, *, microphone: bool, camera: bool) -> RoomActor | None:
        """Bring a socket into its room: the loop if the room is here, None if elsewhere. Raises RoomUnavailable and
        NotAnswered."""
        question = JoinRoom(link=link.id, grant=grant, microphone=microphone, camera=camera)
        actor = await self._claim_or_ask(grant.consultation, question, link)
        if actor is not None:
            actor.join(link, grant, microphone=microphone, camera=camera)
        return actor

    async def resume(
        self, link: SocketLink, consultation: str, participant: str, secret: str, last_chat: str | None
    ) -> RoomActor | None:
        """As `join`, but only into a room that runs: else NotAnswered('nobody')."""
        if actor := self._rooms.running(consultation):
            actor.resume(link, participant, secret, last_chat)
            return actor
        lease = await self._owner(consultation)
        question = ResumeRoom(
            link=link.id,
            consultation=consultation,
            participant=participant,
            secret=secret,
            last_chat=last_chat,
        )
        self._edge.add(link, lease.node)
        try:
            await self._post.ask(lease.node, question, ANSWER_TIMEOUT_S)
        except NotAnswered as error:
            self._edge.drop(link)
            # Who owned the room is gone, and its memory with it: a new ticket opens the room anew.
            raise NotAnswered("nobody") if error.code in ("unreachable", "not_owner") else error from error
        return None

    async def _claim_or_ask(
        self, consultation: str, question: Question, link: SocketLink | None = None
    ) -> RoomActor | None:
        """The room's loop if it is or becomes ours; else the owner has answered the question, and None."""
        over: Lease | None = None
        unreachable = 0
        for _ in range(TRIES):
            home = await self._rooms.own(consultation, over=over)
            if isinstance(home, RoomActor):
                if home.closing:
                    continue  # its last one has left just now; what is posted there is not heard any more
                return home
            if link is not None:
                self._edge.add(link, home.node)  # before asking: the welcome may come before the answer
            try:
                await self._post.ask(home.node, question, ANSWER_TIMEOUT_S)
            except NotAnswered as error:
                if link is not None:
                    self._edge.drop(link)
                if error.code == "unreachable":
                    unreachable += 1
                    if unreachable >= UNREACHABLE_TRIES:
                        over = home
                elif error.code != "not_owner":
                    raise
                await asyncio.sleep(RETRY_S)
            else:
                return None
        raise RoomUnavailable

    async def _owner(self, consultation: str) -> Lease:
        try:
            owners = await self._directory.owners([consultation])
        except DirectoryUnavailable as error:
            raise RoomUnavailable from error
        lease = owners.get(consultation)
        if lease is None or lease.node == self._directory.own.node:
            raise NotAnswered("nobody")
        return lease

    async def waiting(self, consultations: Collection[str]) -> dict[str, WaitingList]:
        here = {
            consultation: _waiting(actor)
            for consultation in consultations
            if (actor := self._rooms.running(consultation)) is not None
        }
        try:
            owners = await self._directory.owners([each for each in consultations if each not in here])
        except DirectoryUnavailable:
            return here
        by_node: dict[str, list[str]] = {}
        for consultation, lease in owners.items():
            if lease.node != self._directory.own.node:
                by_node.setdefault(lease.node, []).append(consultation)
        answers = await asyncio.gather(*(self._ask_waiting(*item) for item in by_node.items()))
        for answer in answers:
            here.update(answer)
        return here

    async def _ask_waiting(self, node: str, consultations: list[str]) -> dict[str, WaitingList]:
        try:
            result = await self._post.ask(node, ListWaiting(consultations=consultations), ANSWER_TIMEOUT_S)
        except NotAnswered:
            return {}
        return msgspec.json.decode(result, type=dict[str, WaitingList])

    async def end(self, consultation: str, reason: EndReason) -> None:
        if actor := self._rooms.running(consultation):
            actor.end(reason)
        else:
            await self._tell_owner(consultation, EndRoom(consultation=consultation, reason=reason))

    async def remove(self, consultation: str, participant: str, reason: EndReason) -> None:
        if actor := self._rooms.running(consultation):
            actor.remove(participant, reason)
        else:
            question = RemoveParticipant(consultation=consultation, participant=participant, reason=reason)
            await self._tell_owner(consultation, question)

    async def attach(self, grant: Grant) -> None:
        try:
            actor = await self._claim_or_ask(grant.consultation, AttachDevice(grant=grant))
        except NotAnswered as error:
            if error.code in ("too_many", "closed"):
                raise JoinRefused(cast(ErrorCode, error.code), error.detail) from error
            raise RoomUnavailable from error
        if actor is not None:
            await actor.attach(grant)

    async def detach(self, consultation: str, participant: str) -> None:
        if actor := self._rooms.running(consultation):
            actor.detach(participant)
        else:
            await self._tell_owner(consultation, DetachDevice(consultation=consultation, participant=participant))

    async def _tell_owner(self, consultation: str, question: Question) -> None:
        """Nobody owns it or nobody answers: there is nothing to end."""
        try:
            lease = await self._owner(consultation)
            await self._post.ask(lease.node, question, ANSWER_TIMEOUT_S)
        except (NotAnswered, RoomUnavailable):
            return

    async def perform(self, command: RelayCommand) -> str:
        if actor := self._rooms.running(command.room):
            return await actor.perform(command)
        try:
            lease = await self._owner(command.room)
            return await self._post.ask(lease.node, DeviceCommand(command=command), COMMAND_TIMEOUT_S)
        except RoomUnavailable as error:
            raise RelayError("unavailable", "the room cannot be reached") from error
        except NotAnswered as error:
            known = error.code in _RELAY_ERRORS
            raise RelayError(error.code if known else "unavailable", error.detail) from error

    # ---- answering --------------------------------------------------------------------------------------------------

    async def _answer_join(self, node: str, question: Any) -> str:
        actor = await self._ours(question.grant.consultation)
        link = self._owned.link(question.link, node, actor)
        actor.join(link, question.grant, microphone=question.microphone, camera=question.camera)
        return ""

    async def _answer_resume(self, node: str, question: Any) -> str:
        actor = self._rooms.running(question.consultation)
        if actor is None:
            raise NotAnswered("not_owner")
        link = self._owned.link(question.link, node, actor)
        actor.resume(link, question.participant, question.secret, question.last_chat)
        return ""

    async def _answer_waiting(self, _node: str, question: Any) -> str:
        found = {
            consultation: _waiting(actor)
            for consultation in question.consultations
            if (actor := self._rooms.running(consultation)) is not None
        }
        return msgspec.json.encode(found).decode()

    async def _answer_end(self, _node: str, question: Any) -> str:
        if actor := self._rooms.running(question.consultation):
            actor.end(question.reason)
        return ""

    async def _answer_remove(self, _node: str, question: Any) -> str:
        if actor := self._rooms.running(question.consultation):
            actor.remove(question.participant, question.reason)
        return ""

    async def _answer_attach(self, _node: str, question: Any) -> str:
        actor = await self._ours(question.grant.consultation)
        try:
            await actor.attach(question.grant)
        except JoinRefused as refused:
            raise NotAnswered(refused.code, refused.message) from refused
        return ""

    async def _answer_detach(self, _node: str, question: Any) -> str:
        if actor := self._rooms.running(question.consultation):
            actor.detach(question.participant)
        return ""

    async def _answer_command(self, _node: str, question: Any) -> str:
        actor = self._rooms.running(question.command.room)
        if actor is None:
            raise NotAnswered("not_owner")
        try:
            return await actor.perform(question.command)
        except RelayError as error:
            raise NotAnswered(error.code, error.detail) from error

    async def _ours(self, consultation: str) -> RoomActor:
        home = await self._rooms.own(consultation)
        if isinstance(home, RoomActor) and not home.closing:
            return home
        raise NotAnswered("not_owner")


_RELAY_ERRORS = frozenset(
    ("bad_sdp", "no_room", "no_participant", "no_track", "stale_revision", "too_many", "draining", "unavailable")
)


def _waiting(actor: RoomActor) -> WaitingList:
    return [(seat.id, seat.grant.name, seat.since.wall) for seat in actor.room.waiting()]
