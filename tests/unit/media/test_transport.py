"""DTLS behind its filter: what must not reach the library, and that both sides derive the same keys."""

from __future__ import annotations

import asyncio
import os
from collections import Counter

import pytest
from aiortc.rtcdtlstransport import (
    RTCCertificate,
    RTCDtlsFingerprint,
    RTCDtlsParameters,
    RTCDtlsTransport,
)
from hypothesis import given
from hypothesis import strategies as st

from media.plane import SrtpKeys
from media.transport import Certificate, DtlsTransport, HandshakeFailed, has_plaintext_alert

ALERT = bytes.fromhex("15fefd0000000000000000000202") + b"\x28"
ENCRYPTED_ALERT = bytes.fromhex("15fefd00010000000000010002") + b"\x02\x28"
HELLO = bytes.fromhex("16fefd00000000000000000004") + b"\x01\x00\x00\x00"


class Browser:
    """A DTLS client whose datagrams go straight to the relay's side, and back."""

    role = "controlling"
    state = "completed"

    def __init__(self) -> None:
        self.certificate = RTCCertificate.generateCertificate()
        self.inbox: asyncio.Queue[bytes] = asyncio.Queue()
        self.server: DtlsTransport | None = None
        self.dtls = RTCDtlsTransport(self, [self.certificate])  # type: ignore[arg-type]
        self.dtls._set_role("client")
        self.spray: list[bytes] = []

    async def _recv(self) -> bytes:
        return await self.inbox.get()

    async def _send(self, data: bytes) -> None:
        assert self.server is not None
        for noise in self.spray:
            self.server.receive(noise)
        self.server.receive(data)

    @property
    def fingerprints(self) -> list[tuple[str, str]]:
        return [(one.algorithm, one.value) for one in self.certificate.getFingerprints()]


async def shake(
    browser: Browser, fingerprints: list[tuple[str, str]], dropped: Counter[str]
) -> tuple[DtlsTransport, SrtpKeys, list[str]]:
    certificate = Certificate()
    closed: list[str] = []
    server = DtlsTransport(
        certificate, fingerprints, browser.inbox.put_nowait, lambda: closed.append("closed"), dropped
    )
    browser.server = server
    expected = RTCDtlsParameters([RTCDtlsFingerprint("sha-256", certificate.fingerprint)])
    client = asyncio.create_task(browser.dtls.start(expected))
    try:
        keys = await server.handshake(20)
        await asyncio.wait_for(client, 20)
    finally:
        client.cancel()
    return server, keys, closed


async def test_both_sides_derive_the_same_keys_and_a_goodbye_is_heard() -> None:
    browser = Browser()
    server, keys, closed = await shake(browser, browser.fingerprints, Counter())
    ssl = browser.dtls._ssl
    assert ssl is not None
    sizes = {0x0001: (16, 14), 0x0007: (16, 12), 0x0008: (32, 12)}
    key, salt = sizes[keys.profile]
    material = ssl.export_keying_material(b"EXTRACTOR-dtls_srtp", 2 * (key + salt))
    client_write = material[:key] + material[2 * key : 2 * key + salt]
    server_write = material[key : 2 * key] + material[2 * key + salt :]
    assert (keys.receive_key, keys.send_key) == (client_write, server_write)
    await browser.dtls.stop()
    async with asyncio.timeout(10):
        while not closed:
            await asyncio.sleep(0.01)
    assert closed == ["closed"]
    await server.close()


async def test_plaintext_alerts_in_the_middle_of_a_handshake_do_not_end_it() -> None:
    browser, dropped = Browser(), Counter[str]()
    browser.spray = [ALERT, HELLO[:13] + HELLO[13:] + ALERT, b"", b"\x80" + bytes(40)]
    server, _, closed = await shake(browser, browser.fingerprints, dropped)
    for datagram in browser.spray:
        server.receive(datagram)
    await asyncio.sleep(0.05)
    assert dropped["dtls_plaintext_alert"] >= 4
    assert dropped["dtls_first_byte"] >= 4
    assert closed == []  # an empty datagram ends a call in the library alone
    await server.close()
    await browser.dtls.stop()


async def test_a_certificate_that_the_sdp_does_not_name_is_refused() -> None:
    browser = Browser()
    other = RTCCertificate.generateCertificate().getFingerprints()
    with pytest.raises(HandshakeFailed, match="failed"):
        await shake(browser, [(one.algorithm, one.value) for one in other], Counter())


async def test_one_right_and_one_wrong_fingerprint_is_refused() -> None:
    """Every fingerprint of a digest that can be checked has to match."""
    browser = Browser()
    wrong = ("sha-512", ":".join(["00"] * 64))
    with pytest.raises(HandshakeFailed, match="failed"):
        await shake(browser, [browser.fingerprints[0], wrong], Counter())


async def test_silence_times_out() -> None:
    sent: list[bytes] = []
    server = DtlsTransport(Certificate(), [("sha-256", ":".join(["00"] * 32))], sent.append, lambda: None, Counter())
    with pytest.raises(HandshakeFailed, match="timeout"):
        await server.handshake(0.1)
    assert sent == []


async def test_a_flood_before_the_handshake_is_bounded() -> None:
    dropped = Counter[str]()
    server = DtlsTransport(
        Certificate(), [("sha-256", ":".join(["00"] * 32))], lambda data: None, lambda: None, dropped
    )
    for _ in range(20_000):
        server.receive(HELLO + os.urandom(100))
    assert dropped["dtls_queue_full"] > 19_900
    server.abandon()
    server.receive(HELLO)  # after the end: nothing
    with pytest.raises(HandshakeFailed):
        await server.handshake(1)


@pytest.mark.parametrize(
    ("datagram", "expected"),
    [
        (ALERT, True),
        (HELLO, False),
        (HELLO + ALERT, True),
        (ENCRYPTED_ALERT, False),
        (HELLO + ENCRYPTED_ALERT, False),
        (b"\x2f" + os.urandom(40), False),
        (b"", False),
        (b"\x15", False),
        (ALERT[:13], True),
    ],
    ids=["alert", "hello", "hello-alert", "encrypted", "hello-encrypted", "noise", "empty", "cut", "header-only"],
)
def test_plaintext_alerts_are_recognised_among_the_records(datagram: bytes, expected: bool) -> None:
    assert has_plaintext_alert(datagram) is expected


@given(st.binary(max_size=200))
def test_any_bytes_can_be_looked_at(data: bytes) -> None:
    has_plaintext_alert(data)
