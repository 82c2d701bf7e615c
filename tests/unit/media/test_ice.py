"""ICE-lite: who is answered, who moves the media, and that strangers hear nothing."""

from __future__ import annotations

import itertools
import os
import random

import pytest
from aioice import stun as aioice_stun
from hypothesis import given
from hypothesis import strategies as st

from media import stun
from media.ice import Checked, Credentials, IceAgent, IceLite, Path

HOME = Path(("192.0.2.1", 5000), 0)
AWAY = Path(("198.51.100.9", 6000), 1)
_transactions = itertools.count(1)


def check(
    credentials: Credentials,
    *,
    nominate: bool = True,
    controlling: bool = True,
    transaction_id: bytes | None = None,
    peer: str = "peer",
) -> bytes:
    """A connectivity check as a browser writes it."""
    return stun.binding_request(
        transaction_id or next(_transactions).to_bytes(12, "big"),
        f"{credentials.ufrag}:{peer}",
        credentials.password.encode(),
        use_candidate=nominate,
        controlling=controlling,
    )


@pytest.fixture
def lite() -> IceLite:
    return IceLite()


@pytest.fixture
def agent(lite: IceLite) -> IceAgent:
    return lite.add(1)


def receive(lite: IceLite, data: bytes, path: Path = HOME, now: float = 0.0) -> Checked:
    checked = lite.receive(data, path, now)
    assert checked is not None, lite.dropped
    return checked


class TestAnswer:
    def test_a_check_is_answered_with_the_address_it_came_from(self, lite: IceLite, agent: IceAgent) -> None:
        request = check(agent.credentials)
        reply = stun.parse(receive(lite, request).reply)
        assert reply.type == stun.BINDING_SUCCESS
        assert reply.transaction_id == request[8:20]
        assert reply.mapped_address() == HOME.address
        assert reply.has_integrity(agent.credentials.password.encode())

    @pytest.mark.parametrize("address", [("203.0.113.7", 40001), ("2001:db8::5", 65535)])
    def test_another_implementation_reads_the_answer(
        self, lite: IceLite, agent: IceAgent, address: tuple[str, int]
    ) -> None:
        reply = receive(lite, check(agent.credentials), Path(address, 0)).reply
        message = aioice_stun.parse_message(reply)  # checks FINGERPRINT
        assert message.check_message_integrity(agent.credentials.password.encode())
        assert message.attributes["XOR-MAPPED-ADDRESS"] == address

    def test_another_implementations_check_is_answered(self, lite: IceLite, agent: IceAgent) -> None:
        request = aioice_stun.Message(aioice_stun.Method.BINDING, aioice_stun.Class.REQUEST)
        request.attributes["USERNAME"] = f"{agent.credentials.ufrag}:abcd"
        request.attributes["PRIORITY"] = 1
        request.attributes["ICE-CONTROLLING"] = 5
        request.attributes["USE-CANDIDATE"] = None
        request.add_message_integrity(agent.credentials.password.encode())
        assert receive(lite, bytes(request)).moved

    @pytest.mark.parametrize("address", [("203.0.113.7", 40001), ("2001:db8::5", 65535)])
    def test_no_answer_is_larger_than_its_request(
        self, lite: IceLite, agent: IceAgent, address: tuple[str, int]
    ) -> None:
        for controlling in (True, False):
            request = check(agent.credentials, nominate=False, controlling=controlling)
            assert len(receive(lite, request, Path(address, 0)).reply) <= len(request)

    def test_a_request_smaller_than_its_answer_is_not_answered(self, lite: IceLite, agent: IceAgent) -> None:
        """A valid check without PRIORITY and role: 56 bytes against 64 (IPv4) or 76 (IPv6)."""
        request = aioice_stun.Message(aioice_stun.Method.BINDING, aioice_stun.Class.REQUEST)
        request.attributes["USERNAME"] = f"{agent.credentials.ufrag}:a"
        request.add_message_integrity(agent.credentials.password.encode())
        assert lite.receive(bytes(request), Path(("2001:db8::5", 9), 0), 0.0) is None
        assert lite.dropped["amplifies"] == 1

    def test_a_controlled_peer_is_told_to_change_its_role(self, lite: IceLite, agent: IceAgent) -> None:
        checked = receive(lite, check(agent.credentials, controlling=False))
        reply = aioice_stun.parse_message(checked.reply)
        assert reply.error_code == 487
        assert reply.check_message_integrity(agent.credentials.password.encode())
        assert agent.selected is None
        assert not checked.moved


class TestSilence:
    def test_a_plain_binding_request_of_20_bytes_gets_nothing(self, lite: IceLite, agent: IceAgent) -> None:
        request = bytes.fromhex("000100002112a442") + os.urandom(12)
        assert lite.receive(request, HOME, 0.0) is None

    def test_an_unknown_user_name_gets_nothing(self, lite: IceLite, agent: IceAgent) -> None:
        assert lite.receive(check(Credentials("nobody12", "x" * 24)), HOME, 0.0) is None
        assert lite.dropped["unknown_ufrag"] == 1

    def test_a_wrong_password_gets_nothing_and_changes_nothing(self, lite: IceLite, agent: IceAgent) -> None:
        forged = check(Credentials(agent.credentials.ufrag, "x" * 24))
        assert lite.receive(forged, AWAY, 0.0) is None
        assert lite.dropped["bad_integrity"] == 1
        assert agent.selected is None
        assert lite.owner(AWAY) is None
        assert agent.last_check_at is None

    def test_a_missing_integrity_gets_nothing(self, lite: IceLite, agent: IceAgent) -> None:
        request = aioice_stun.Message(aioice_stun.Method.BINDING, aioice_stun.Class.REQUEST)
        request.attributes["USERNAME"] = f"{agent.credentials.ufrag}:abcd"
        request.add_fingerprint()
        assert lite.receive(bytes(request), HOME, 0.0) is None
        assert lite.dropped["bad_integrity"] == 1

    def test_a_removed_agent_gets_nothing(self, lite: IceLite, agent: IceAgent) -> None:
        receive(lite, check(agent.credentials))
        lite.remove(agent)
        assert lite.receive(check(agent.credentials), HOME, 0.0) is None
        assert lite.owner(HOME) is None

    @given(st.binary(max_size=300))
    def test_noise_gets_nothing(self, data: bytes) -> None:
        lite = IceLite()
        lite.add(1)
        assert lite.receive(data, HOME, 0.0) is None

    @given(st.data())
    def test_a_changed_check_is_refused(self, data: st.DataObject) -> None:
        lite = IceLite()
        agent = lite.add(1)
        request = bytearray(check(agent.credentials))
        at = data.draw(st.integers(0, len(request) - 1))
        request[at] ^= data.draw(st.integers(1, 255))
        assert lite.receive(bytes(request), HOME, 0.0) is None
        assert agent.selected is None

    @given(st.data())
    def test_a_resealed_mutation_never_raises(self, data: st.DataObject) -> None:
        """With the right keys too: attributes of any name and length, in any order."""
        lite = IceLite()
        agent = lite.add(1)
        attributes = data.draw(st.lists(st.tuples(st.integers(0, 0xFFFF), st.binary(max_size=40)), max_size=6))
        named = [(stun.USERNAME, f"{agent.credentials.ufrag}:x".encode()), *attributes]
        sealed = stun._seal(stun.BINDING_REQUEST, os.urandom(12), named, agent.credentials.password.encode())
        lite.receive(sealed, HOME, 0.0)


class TestMoving:
    def test_only_a_nomination_moves_the_media(self, lite: IceLite, agent: IceAgent) -> None:
        assert not receive(lite, check(agent.credentials, nominate=False)).moved
        assert agent.selected is None
        assert agent.send_path() == HOME  # DTLS may be answered there already
        assert receive(lite, check(agent.credentials)).moved
        assert agent.selected == HOME

    def test_a_new_address_is_followed(self, lite: IceLite, agent: IceAgent) -> None:
        receive(lite, check(agent.credentials))
        assert receive(lite, check(agent.credentials), AWAY).moved
        assert agent.selected == AWAY
        assert not receive(lite, check(agent.credentials), AWAY).moved

    def test_a_restarted_peer_is_followed_from_a_dead_path_before_it_nominates(
        self, lite: IceLite, agent: IceAgent
    ) -> None:
        receive(lite, check(agent.credentials), HOME, 0.0)
        assert not receive(lite, check(agent.credentials, nominate=False), AWAY, 3.0).moved, "no restart"
        again = check(agent.credentials, nominate=False, peer="again")
        assert receive(lite, again, AWAY, 3.1).moved
        third = Path(("203.0.113.3", 7000), 0)
        for now in (3.2, 5.0):
            assert not receive(lite, check(agent.credentials, nominate=False, peer="again"), third, now).moved
        assert receive(lite, check(agent.credentials, peer="again"), third, 5.1).moved

    def test_a_restarted_peer_is_not_moved_from_a_living_path(self, lite: IceLite, agent: IceAgent) -> None:
        receive(lite, check(agent.credentials), HOME, 0.0)
        assert not receive(lite, check(agent.credentials, nominate=False, peer="again"), AWAY, 0.5).moved
        assert agent.selected == HOME

    def test_a_recorded_check_from_elsewhere_moves_nothing(self, lite: IceLite, agent: IceAgent) -> None:
        request = check(agent.credentials)
        receive(lite, request)
        assert lite.receive(request, AWAY, 0.1) is None
        assert agent.selected == HOME
        assert lite.dropped["replayed"] == 1
        receive(lite, request, HOME)  # a retransmission is answered again

    def test_an_address_in_use_is_not_taken_by_another_connection(self, lite: IceLite, agent: IceAgent) -> None:
        other = lite.add(2)
        receive(lite, check(agent.credentials), HOME, now=10)
        assert lite.receive(check(other.credentials), HOME, 12) is None
        assert lite.owner(HOME) is agent
        assert receive(lite, check(other.credentials), HOME, now=16).moved
        assert lite.owner(HOME) is other
        assert agent.selected is None

    def test_the_paths_of_one_peer_are_bounded(self, lite: IceLite, agent: IceAgent) -> None:
        receive(lite, check(agent.credentials), HOME, now=0)
        for port in range(1, 200):
            receive(lite, check(agent.credentials, nominate=False), Path(("192.0.2.1", port), 0), now=port)
        assert len(agent.paths) <= 16
        assert agent.selected == HOME  # the one in use is kept, the oldest others go
        assert lite.owner(Path(("192.0.2.1", 1), 0)) is None
        assert lite.owner(Path(("192.0.2.1", 199), 0)) is agent


class TestRestart:
    def test_the_old_generation_is_answered_but_moves_nothing_once_the_new_one_is_used(
        self, lite: IceLite, agent: IceAgent
    ) -> None:
        old = agent.credentials
        receive(lite, check(old))
        lite.restart(agent)
        assert agent.credentials != old
        receive(lite, check(agent.credentials), AWAY)
        reply = stun.parse(receive(lite, check(old), HOME).reply)
        assert reply.has_integrity(old.password.encode())
        assert agent.selected == AWAY

    def test_a_lost_answer_leaves_the_old_generation_in_charge(self, lite: IceLite, agent: IceAgent) -> None:
        """The browser cannot know the new credentials: its old ones must still carry it to a new network."""
        old = agent.credentials
        receive(lite, check(old))
        lite.restart(agent)
        assert receive(lite, check(old), AWAY).moved

    def test_a_second_restart_keeps_the_generation_in_use(self, lite: IceLite, agent: IceAgent) -> None:
        old = agent.credentials
        receive(lite, check(old))
        lite.restart(agent)
        never_used = agent.credentials
        lite.restart(agent)
        assert lite.receive(check(never_used), HOME, 0.0) is None
        receive(lite, check(old))
        receive(lite, check(agent.credentials), AWAY)
        assert agent.selected == AWAY

    def test_the_generation_before_the_last_is_forgotten(self, lite: IceLite, agent: IceAgent) -> None:
        first = agent.credentials
        for _ in range(2):
            receive(lite, check(agent.credentials))
            lite.restart(agent)
        assert lite.receive(check(first), HOME, 0.0) is None
        lite.remove(agent)
        assert lite._by_ufrag == {}


def test_credentials_have_the_entropy_that_the_rfc_asks_for() -> None:
    made = {Credentials.generate() for _ in range(200)}
    assert len(made) == 200
    assert all(len(one.ufrag) >= 4 and len(one.password) >= 22 for one in made)


def test_a_flood_of_strangers_leaves_no_state() -> None:
    lite, seeded = IceLite(), random.Random(1)
    lite.add(1)
    for port in range(2000):
        lite.receive(check(Credentials(f"u{port:07d}", "x" * 24)), Path(("192.0.2.1", port), 0), 0.0)
        lite.receive(seeded.randbytes(40), Path(("192.0.2.1", port), 0), 0.0)
    assert lite._by_path == {}
    assert len(lite._by_ufrag) == 1
