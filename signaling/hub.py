"""The WebSockets of /ws: from the HTTP request to the room that the page belongs to, wherever that room lives."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime

from aiohttp import WSMsgType, web

from signaling.actor import RoomActor
from signaling.admission import Admission, Grant, Record, Refusal
from signaling.codec import ProtocolError, decode, encode
from signaling.directory import Directory
from signaling.effects import POLICY_VIOLATION, Now
from signaling.homes import Homes
from signaling.messages import (
    MAX_MESSAGE_BYTES,
    EndReason,
    Error,
    ErrorCode,
    Join,
    Ping,
    Pong,
    Resume,
)
from signaling.post import NotAnswered, Post
from signaling.proxy import Edge, Owned
from signaling.rate import TokenBucket
from signaling.relay_commands import RelayCommand
from signaling.relay_pool import RelayPool
from signaling.rooms import Rooms, RoomUnavailable
from signaling.sockets import SILENCE_S, Flood, SocketLink, allowed_origins
from signaling.turn import IceServersFor

log = logging.getLogger(__name__)

FIRST_MESSAGE_S = 5.0
# The protocol's own heartbeat finds dead sockets; this one keeps proxies from closing idle ones.
PROTOCOL_PING_S = 20.0


@dataclass(frozen=True, slots=True)
class HubLimits:
    """Caps per client address. A clinic may sit behind one address."""

    sockets_per_address: int = 64
    opens_at_once: int = 40
    opens_per_second: float = 4.0


@dataclass(frozen=True, slots=True)
class HubSnapshot:
    """For /metrics: what this process carries."""

    rooms: int
    sockets: int
    joined: int
    waiting: int


def system_clock() -> Now:
    return Now(datetime.now(UTC), time.monotonic())


class Hub:
    """`client_address` tells whose request it is (behind a proxy: not `request.remote`)."""

    def __init__(
        self,
        *,
        directory: Directory,
        pool: RelayPool,
        admission: Admission,
        record: Record,
        ice_servers: IceServersFor,
        public_url: str,
        post: Post | None = None,
        limits: HubLimits | None = None,
        clock: Callable[[], Now] = system_clock,
        client_address: Callable[[web.Request], str] | None = None,
    ) -> None:
        self._directory = directory
        self._admission = admission
        self._clock = clock
        self._origins = allowed_origins(public_url)
        self._limits = limits if limits is not None else HubLimits()
        self._client_address = client_address or (lambda request: request.remote or "")
        self._post = post if post is not None else Post(directory)
        self._rooms = Rooms(
            directory=directory,
            pool=pool,
            admission=admission,
            record=record,
            ice_servers=ice_servers,
            clock=clock,
        )
        self._edge = Edge(directory, self._post)
        self._homes = Homes(directory, self._post, self._rooms, Owned(directory, self._post), self._edge)
        self._sockets: Counter[str] = Counter()
        self._opens: dict[str, TokenBucket] = {}
        self._stopping = False

    async def start(self) -> None:
        """Start the rooms' clock. The directory is started and stopped by whoever made it, before and after."""
        self._rooms.start()

    async def stop(self) -> None:
        """Graceful: everyone hears `ended` (server), sockets close with 1012, the record gets what it must keep."""
        self._stopping = True
        await self._rooms.stop()
        self._edge.close_all()
        await self._post.stop()

    # ---- one socket -------------------------------------------------------------------------------------------------

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """GET /ws. 403: a foreign origin; 429: too many sockets from this address; 503: stopping."""
        if self._stopping:
            raise web.HTTPServiceUnavailable(headers={"Retry-After": "1"})
        if request.headers.get("Origin", "").lower() not in self._origins:
            raise web.HTTPForbidden(text="This page may not open a connection here.")
        address = self._client_address(request)
        if not self._may_open(address):
            raise web.HTTPTooManyRequests(headers={"Retry-After": "5"})
        # Twice the limit: a message that is a little too large is answered, not cut off by aiohttp.
        # No compression: a deflate window per socket costs more memory than the few SDPs save.
        socket = web.WebSocketResponse(heartbeat=PROTOCOL_PING_S, max_msg_size=2 * MAX_MESSAGE_BYTES, compress=False)
        self._sockets[address] += 1
        try:
            await socket.prepare(request)
            link = SocketLink(secrets.token_hex(8), request, socket)
            try:
                await self._serve(socket, link)
            finally:
                await link.finish()
        finally:
            self._sockets[address] -= 1
            if not self._sockets[address]:
                del self._sockets[address]
        return socket

    def _may_open(self, address: str) -> bool:
        seconds = self._clock().seconds
        if len(self._opens) > 10_000:
            self._opens = {key: bucket for key, bucket in self._opens.items() if not bucket.full(seconds)}
        bucket = self._opens.get(address)
        if bucket is None:
            bucket = self._opens[address] = TokenBucket(self._limits.opens_at_once, self._limits.opens_per_second)
        return bucket.take(seconds) and self._sockets[address] < self._limits.sockets_per_address

    async def _serve(self, socket: web.WebSocketResponse, link: SocketLink) -> None:
        first = await self._first(socket, link)
        if first is None:
            return
        actor = await self._enter(link, first)
        if isinstance(actor, bool):
            return
        flood = Flood()
        try:
            while not link.closing:
                try:
                    frame = await socket.receive(timeout=SILENCE_S)
                except TimeoutError:
                    log.info("a socket was silent for too long")
                    link.abort()
                    return
                if frame.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
                    return
                verdict = flood.take(self._clock().seconds)
                if verdict == "pass":
                    self._message(link, frame.data, actor)
                elif verdict == "warn":
                    self._error(link, "too_fast", "Too many messages; slow down.")
                elif verdict == "cut":
                    log.warning("a socket was cut off: flood")
                    link.close(POLICY_VIOLATION)
        finally:
            if isinstance(actor, RoomActor):
                actor.lost(link)
            else:
                self._edge.lost(link)

    def _message(self, link: SocketLink, data: str | bytes, actor: RoomActor | None) -> None:
        try:
            message = decode(data)
        except ProtocolError as error:
            self._error(link, error.code, error.message, error.request)
            return
        if isinstance(message, Ping):
            # Answered here: it asks whether the socket lives, not the room.
            link.send(encode(Pong(n=message.n)))
        elif actor is not None:
            actor.receive(link, message)
        else:
            self._edge.receive(link, data if isinstance(data, str) else data.decode("utf-8"))

    async def _first(self, socket: web.WebSocketResponse, link: SocketLink) -> Join | Resume | None:
        """The first message. A malformed one is answered, and another may follow in the time that is left."""
        try:
            async with asyncio.timeout(FIRST_MESSAGE_S):
                for _ in range(4):
                    frame = await socket.receive()
                    if frame.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
                        return None
                    try:
                        message = decode(frame.data)
                    except ProtocolError as error:
                        self._error(link, error.code, error.message, error.request)
                        continue
                    if isinstance(message, Join | Resume):
                        return message
                    break
        except TimeoutError:
            pass
        self._refuse(link, "join_first", "The first message is join or resume.")
        return None

    async def _enter(self, link: SocketLink, first: Join | Resume) -> RoomActor | bool | None:
        """The room's loop if the room is here, None if it is on another node, False if there is no way in."""
        try:
            if isinstance(first, Join):
                grant = await self._admission.redeem(first.ticket, self._clock().wall)
                return await self._homes.join(link, grant, microphone=first.microphone, camera=first.camera)
            consultation, participant, secret = [*first.token.split("."), "", ""][:3]
            return await self._homes.resume(link, consultation, participant, secret, first.last_chat)
        except Refusal as refusal:
            if refusal.code == "closed":
                self._refuse(link, "closed", "The consultation is over.")
            else:
                self._refuse(link, "bad_ticket", "This ticket is used up or too old; get a new one.")
        except RoomUnavailable:
            self._refuse(link, "unavailable", "The room cannot be reached now; try again in a second.")
        except NotAnswered as error:
            if error.code == "nobody":
                self._refuse(link, "bad_resume", "This place in the room is gone; join again.")
            else:
                self._refuse(link, "unavailable", "The room cannot be reached now; try again in a second.")
        except Exception:
            # The domain's database, most likely: the page tries again.
            log.exception("a join failed")
            self._refuse(link, "unavailable", "The room cannot be reached now; try again in a second.")
        return False

    def _error(self, link: SocketLink, code: ErrorCode, message: str, request: int | None = None) -> None:
        link.send(encode(Error(code=code, message=message, request=request)))

    def _refuse(self, link: SocketLink, code: ErrorCode, message: str) -> None:
        self._error(link, code, message)
        link.close(POLICY_VIOLATION)

    # ---- for the rest of the program --------------------------------------------------------------------------------

    def snapshot(self) -> HubSnapshot:
        seats = [seat for actor in self._rooms for seat in actor.room.seats.values()]
        joined = sum(1 for seat in seats if seat.admitted)
        return HubSnapshot(
            rooms=sum(1 for _ in self._rooms),
            sockets=self._sockets.total(),
            joined=joined,
            waiting=len(seats) - joined,
        )

    async def waiting(self, consultations: Collection[str]) -> dict[str, list[tuple[str, str, datetime]]]:
        """Who waits in these consultations, on whatever node: (participant, name, since). Rooms that cannot be asked
        are missing."""
        return await self._homes.waiting(consultations)

    async def end(self, consultation: str, reason: EndReason) -> None:
        """End a room for everybody (`cancelled`); nothing happens if there is none."""
        await self._homes.end(consultation, reason)

    async def remove(self, consultation: str, participant: str, reason: EndReason) -> None:
        """Close one participant's place (a withdrawn login: `signed_out`; by staff: `removed`)."""
        await self._homes.remove(consultation, participant, reason)

    async def attach(self, grant: Grant) -> None:
        """A device without a socket (WHIP, WHEP) joins. Raises JoinRefused, RoomUnavailable."""
        await self._homes.attach(grant)

    async def detach(self, consultation: str, participant: str) -> None:
        await self._homes.detach(consultation, participant)

    async def perform(self, command: RelayCommand) -> str:
        """A device's relay command, where the room's media is: the answer SDP or fragment. Raises RelayError."""
        return await self._homes.perform(command)
