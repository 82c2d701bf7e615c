"""ICE-lite (RFC 8445 section 2.5) for many connections on one UDP port; pure: no sockets, no clock.

A lite agent only answers checks. Nobody learns anything from it without a password that was handed out in an
SDP: an unknown user name, a wrong MESSAGE-INTEGRITY or a malformed message is met with silence, so there is
nothing to reflect (`IceLite.dropped` counts them by reason).
"""

from __future__ import annotations

import secrets
import string
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import NamedTuple

from media import stun

_ICE_CHARS = string.ascii_letters + string.digits
# RFC 8445 section 5.3 asks for 24 and 128 bits; the user name is longer than it asks because it is the key of
# a table that strangers can query.
_UFRAG_CHARS = 8
_PASSWORD_CHARS = 24
# Host, reflexive and relayed addresses of two interfaces; more than that is a peer that sprays.
_PATHS_MAX = 16
# A network path in use can be claimed by another connection only after this silence (s): who knows one
# password must not be able to take over a neighbour's address with a forged source.
_PATH_HELD_S = 5.0
_TRANSACTIONS_REMEMBERED = 64
# A peer that restarts ICE nominates up to 2.5 s after its first check. Where nothing was heard on the nominated path
# for so long (s), the first path of the new session is taken until then.
_QUIET_S = 1.0


class Path(NamedTuple):
    """Where a peer is: its address, and the local socket that it talks to."""

    address: tuple[str, int]
    local: int


@dataclass(frozen=True, slots=True)
class Credentials:
    ufrag: str
    password: str

    @classmethod
    def generate(cls) -> Credentials:
        return cls(_random(_UFRAG_CHARS), _random(_PASSWORD_CHARS))


def _random(length: int) -> str:
    return "".join(secrets.choice(_ICE_CHARS) for _ in range(length))


@dataclass(slots=True, eq=False)
class IceAgent:
    """The ICE state of one connection. Made by `IceLite.add`; changed by `IceLite` only.

    selected: the nominated path, None before the first nomination.
    peer_ufrag: the peer's ICE session that `selected` belongs to.
    last_check_at: when the last authenticated check came (consent, RFC 7675).
    """

    transport: int
    credentials: Credentials
    previous: Credentials | None = None
    selected: Path | None = None
    peer_ufrag: str = ""
    last_check_at: float | None = None
    # validated path → when its last check came
    paths: dict[Path, float] = field(default_factory=dict)
    # whether a check with `credentials` (not `previous`) has come
    current_used: bool = False
    transactions: deque[tuple[bytes, Path]] = field(default_factory=lambda: deque(maxlen=_TRANSACTIONS_REMEMBERED))

    def send_path(self) -> Path | None:
        """Where to send: the nominated path, else the one that was checked last."""
        if self.selected is not None:
            return self.selected
        return max(self.paths, key=lambda path: self.paths[path], default=None)


class Checked(NamedTuple):
    """An authenticated check: where it came from, what to send back there, and whether the peer moved."""

    agent: IceAgent
    path: Path
    reply: bytes
    moved: bool  # `agent.selected` is a new path


class IceLite:
    """All agents of one port."""

    def __init__(self) -> None:
        self.dropped: Counter[str] = Counter()
        self._by_ufrag: dict[str, IceAgent] = {}
        self._by_path: dict[Path, IceAgent] = {}

    def add(self, transport: int) -> IceAgent:
        """A new agent with fresh credentials for the connection with this number."""
        agent = IceAgent(transport, self._fresh())
        self._by_ufrag[agent.credentials.ufrag] = agent
        return agent

    def restart(self, agent: IceAgent) -> None:
        """New credentials (RFC 8445 section 2.4). The generation in use goes on being answered; it may still
        move the peer until the first check of the new one, because the answer with the new credentials can
        get lost."""
        if agent.current_used or agent.previous is None:
            if agent.previous is not None:
                self._by_ufrag.pop(agent.previous.ufrag, None)
            agent.previous = agent.credentials
        else:  # the last restart was never used: it is replaced, the generation in use stays
            self._by_ufrag.pop(agent.credentials.ufrag, None)
        agent.credentials = self._fresh()
        agent.current_used = False
        self._by_ufrag[agent.credentials.ufrag] = agent

    def remove(self, agent: IceAgent) -> None:
        self._by_ufrag.pop(agent.credentials.ufrag, None)
        if agent.previous is not None:
            self._by_ufrag.pop(agent.previous.ufrag, None)
        for path in list(agent.paths):
            self._forget(agent, path)

    def owner(self, path: Path) -> IceAgent | None:
        """The agent whose peer has proven to be at this path: the only one whose DTLS may come from there."""
        return self._by_path.get(path)

    def receive(self, data: bytes, path: Path, now: float) -> Checked | None:
        """A datagram with a first byte of 0–3. None = say nothing."""
        try:
            message = stun.parse(data)
            if message.type != stun.BINDING_REQUEST:
                # Indications keep a NAT open; responses answer nothing that a lite agent has asked.
                return self._drop("not_a_request")
            ufrag, peer_ufrag = message.username()
        except stun.MalformedStun:
            return self._drop("malformed")
        agent = self._by_ufrag.get(ufrag)
        if agent is None:
            return self._drop("unknown_ufrag")
        current = ufrag == agent.credentials.ufrag
        credentials = agent.credentials if current or agent.previous is None else agent.previous
        key = credentials.password.encode("ascii")
        if not message.has_integrity(key):
            return self._drop("bad_integrity")
        if message.unknown_required():
            return self._drop("unknown_attribute")
        if self._is_replay(agent, message.transaction_id, path):
            return self._drop("replayed")
        if stun.ICE_CONTROLLED in message.attributes:
            # A lite agent is always the controlled one; the peer has to change its role (RFC 8445 section
            # 7.3.1.1).
            return self._answer(agent, path, message, stun.role_conflict(message.transaction_id, key), moved=False)
        if not self._claim(agent, path, now):
            return self._drop("path_in_use")
        agent.last_check_at = now
        agent.current_used = agent.current_used or current
        in_charge = current or not agent.current_used
        follows = stun.USE_CANDIDATE in message.attributes or (
            agent.selected is not None
            and peer_ufrag != agent.peer_ufrag
            and now - agent.paths[agent.selected] >= _QUIET_S
        )
        moved = in_charge and follows and agent.selected != path
        if in_charge and follows:
            agent.selected, agent.peer_ufrag = path, peer_ufrag
        reply = stun.binding_success(message.transaction_id, path.address, key)
        return self._answer(agent, path, message, reply, moved=moved)

    def _answer(
        self, agent: IceAgent, path: Path, message: stun.Message, reply: bytes, *, moved: bool
    ) -> Checked | None:
        # Every real check carries PRIORITY and a role and is larger than its answer; one that is not asks for
        # an amplifier.
        if len(reply) > len(message.data):
            return self._drop("amplifies")
        return Checked(agent, path, reply, moved)

    def _is_replay(self, agent: IceAgent, transaction_id: bytes, path: Path) -> bool:
        """A recorded check that comes again from elsewhere would move the media there: a lite agent sends no
        checks of its own that would find out."""
        for seen, where in agent.transactions:
            if seen == transaction_id:
                return where != path
        agent.transactions.append((transaction_id, path))
        return False

    def _claim(self, agent: IceAgent, path: Path, now: float) -> bool:
        holder = self._by_path.get(path)
        if holder is not None and holder is not agent:
            if now - holder.paths[path] < _PATH_HELD_S:
                return False
            self._forget(holder, path)
        if path not in agent.paths and len(agent.paths) >= _PATHS_MAX:
            spare = [known for known in agent.paths if known != agent.selected]
            self._forget(agent, min(spare, key=lambda known: agent.paths[known]))
        agent.paths[path] = now
        self._by_path[path] = agent
        return True

    def _forget(self, agent: IceAgent, path: Path) -> None:
        agent.paths.pop(path, None)
        if agent.selected == path:
            agent.selected = None
        if self._by_path.get(path) is agent:
            del self._by_path[path]

    def _fresh(self) -> Credentials:
        while (credentials := Credentials.generate()).ufrag in self._by_ufrag:
            continue
        return credentials

    def _drop(self, reason: str) -> Checked | None:
        self.dropped[reason] += 1
        return None
