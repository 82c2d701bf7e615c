"""DTLS for one connection, by aiortc's RTCDtlsTransport; the only importer of aiortc.

aiortc 1.16 asks its transport for `role`, `_recv` and `_send` only, so a small stand-in feeds it. What must
not reach it is kept out here: `receive` takes datagrams of ICE-validated sources only (the caller's duty),
refuses the empty one, refuses plaintext alerts (a fatal alert in the clear is a free way to end a stranger's
handshake), and the queue is bounded. SCTP for data channels would start on `DtlsTransport.dtls` here.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import cast

from aiortc import RTCIceTransport
from aiortc.rtcdtlstransport import (
    RTCCertificate,
    RTCDtlsFingerprint,
    RTCDtlsParameters,
    RTCDtlsTransport,
    SRTPProtectionProfile,
)

from media.plane import SrtpKeys

# A handshake is two datagrams each way and again; ten times that is room for retransmissions.
_QUEUE_MAX = 32
_ALERT = 21
_RECORD_HEADER_BYTES = 13
# The IANA registry "DTLS-SRTP Protection Profiles" by OpenSSL's name.
_PROFILES = {
    b"SRTP_AES128_CM_SHA1_80": 0x0001,
    b"SRTP_AEAD_AES_128_GCM": 0x0007,
    b"SRTP_AEAD_AES_256_GCM": 0x0008,
}
_EXPORTER_LABEL = b"EXTRACTOR-dtls_srtp"  # RFC 5764 section 4.2


class HandshakeFailed(Exception):
    """The DTLS handshake did not succeed; `args[0]` is the reason: failed, timeout, closed."""


class Certificate:
    """The certificate of this process. One per start: making a key per connection is CPU that strangers
    spend."""

    def __init__(self) -> None:
        self.aiortc = RTCCertificate.generateCertificate()

    @property
    def fingerprint(self) -> str:
        """The SHA-256 fingerprint as in `a=fingerprint:sha-256 …` (RFC 8122)."""
        for one in self.aiortc.getFingerprints():
            if one.algorithm == "sha-256":
                return one.value
        raise LookupError("sha-256")


class _IceStandIn:
    """What RTCDtlsTransport needs of an RTCIceTransport."""

    role = "controlled"
    state = "completed"

    def __init__(self, send: Callable[[bytes], None], dropped: Counter[str]) -> None:
        self._send_datagram = send
        self._dropped = dropped
        self._queue: deque[bytes] = deque()
        self._wakeup = asyncio.Event()
        self._closed = False

    def put(self, data: bytes) -> None:
        if self._closed:
            return
        if len(self._queue) >= _QUEUE_MAX:
            self._dropped["dtls_queue_full"] += 1
            return
        self._queue.append(data)
        self._wakeup.set()

    def close(self) -> None:
        self._closed = True
        self._queue.clear()
        self._wakeup.set()

    async def _recv(self) -> bytes:
        while not self._queue:
            if self._closed:
                raise ConnectionError("closed")
            self._wakeup.clear()
            await self._wakeup.wait()
        return self._queue.popleft()

    async def _send(self, data: bytes) -> None:
        if not self._closed:
            self._send_datagram(data)


class DtlsTransport:
    """The DTLS server side of one connection.

    fingerprints: (algorithm, value) pairs of the peer's SDP; its certificate has to match all that are
    supported. send: puts one datagram on the wire.
    on_close: called once when the peer said goodbye (close_notify) after the handshake.
    dropped: counts by reason, shared by all connections of the relay.
    """

    def __init__(
        self,
        certificate: Certificate,
        fingerprints: Sequence[tuple[str, str]],
        send: Callable[[bytes], None],
        on_close: Callable[[], None],
        dropped: Counter[str],
    ) -> None:
        self._ice = _IceStandIn(send, dropped)
        self._dropped = dropped
        self._on_close = on_close
        self._fingerprints = [RTCDtlsFingerprint(algorithm, value) for algorithm, value in fingerprints]
        self.dtls = RTCDtlsTransport(cast(RTCIceTransport, self._ice), [certificate.aiortc])
        # The relay always is the server (`a=setup:passive`): the browser sends the first flight, through an
        # address that ICE has validated by then.
        self.dtls._set_role("server")

    def receive(self, data: bytes) -> None:
        """A datagram with a first byte of 20–63 from a validated path of this connection's peer."""
        if not data or not 20 <= data[0] <= 63:
            # aiortc reads data[0] of whatever comes and would take SRTP here too.
            self._dropped["dtls_first_byte"] += 1
            return
        if has_plaintext_alert(data):
            self._dropped["dtls_plaintext_alert"] += 1
            return
        self._ice.put(data)

    async def handshake(self, timeout_s: float) -> SrtpKeys:
        """Run the handshake; call once, when the first datagram is there. Raises HandshakeFailed."""
        try:
            async with asyncio.timeout(timeout_s):
                await self.dtls.start(RTCDtlsParameters(self._fingerprints))
        except TimeoutError:
            self.abandon()
            raise HandshakeFailed("timeout") from None
        except Exception as error:
            # OpenSSL's wrapper raises many kinds on hostile bytes; whichever it is, only this connection
            # ends.
            self.abandon()
            raise HandshakeFailed("failed") from error
        if self.dtls.state != "connected":
            self.abandon()
            raise HandshakeFailed("failed")
        keys = self._srtp_keys()
        self.dtls.on("statechange", self._on_state)
        return keys

    def _srtp_keys(self) -> SrtpKeys:
        ssl = self.dtls._ssl
        assert ssl is not None
        name = ssl.get_selected_srtp_profile()
        profile: SRTPProtectionProfile
        for profile in self.dtls._srtp_profiles:
            if profile.openssl_profile == name:
                break
        else:
            raise HandshakeFailed("failed")
        size = 2 * (profile.key_length + profile.salt_length)
        material = ssl.export_keying_material(_EXPORTER_LABEL, size)
        # Index 0 is the client's write key; the client is the browser.
        return SrtpKeys(
            profile=_PROFILES[name],
            receive_key=profile.get_key_and_salt(material, 0),
            send_key=profile.get_key_and_salt(material, 1),
        )

    def _on_state(self) -> None:
        if self.dtls.state in ("closed", "failed"):
            self._ice.close()
            self._on_close()

    async def close(self) -> None:
        """Say goodbye (close_notify) and stop."""
        self.dtls.remove_all_listeners()
        await self.dtls.stop()
        self._ice.close()

    def abandon(self) -> None:
        """Stop without a word."""
        self.dtls.remove_all_listeners()
        self._ice.close()


def has_plaintext_alert(data: bytes) -> bool:
    """Whether a DTLS datagram holds an unencrypted alert record (epoch 0; RFC 6347 section 4.1). Browsers end
    a connection with an encrypted one; one in the clear proves nothing about who sent it."""
    at = 0
    while at + _RECORD_HEADER_BYTES <= len(data):
        kind = data[at]
        if kind & 0xE0 == 0x20:
            # A DTLS 1.3 record with the short header is always encrypted (RFC 9147 section 4).
            return False
        epoch = int.from_bytes(data[at + 3 : at + 5], "big")
        if kind == _ALERT and epoch == 0:
            return True
        at += _RECORD_HEADER_BYTES + int.from_bytes(data[at + 11 : at + 13], "big")
    return False
