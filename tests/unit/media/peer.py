"""A browser's media side for the plane's tests: a real socket and pylibsrtp's own sessions around hand-made
packets."""

from __future__ import annotations

import os
import select
import socket
import time

from pylibsrtp import Policy, Session

from media import packets, rtcp
from media.plane import ForwardSpec, HeaderExtensions, SrtpKeys, TrackSpec
from media.python_plane import PythonPlane

PROFILES = {
    0x0001: (Policy.SRTP_PROFILE_AES128_CM_SHA1_80, 30),
    0x0007: (Policy.SRTP_PROFILE_AEAD_AES_128_GCM, 28),
    0x0008: (Policy.SRTP_PROFILE_AEAD_AES_256_GCM, 44),
}
IDS = HeaderExtensions(
    mid=1, rid=2, repaired_rid=3, transport_cc=4, abs_send_time=5, audio_level=6, video_orientation=7
)
SUBSCRIBER_IDS = HeaderExtensions(mid=9, transport_cc=3, audio_level=1, video_orientation=2)
VIDEO = TrackSpec("video", "VP8", 90_000, 96, 97, IDS, True)
AUDIO = TrackSpec("audio", "opus", 48_000, 111, None, IDS, True)


def vp8(key: bool, body: bytes = b"frame", *, start: bool = True, picture_id: int = 300) -> bytes:
    """A VP8 payload with a 15-bit picture id and TL0PICIDX."""
    descriptor = bytes((0x90 if start else 0x80, 0xC0)) + (0x8000 | picture_id).to_bytes(2, "big") + b"\x05"
    return descriptor + bytes((0x00 if key else 0x01,)) + body


class Peer:
    """One transport of a browser. `received` collects decrypted packets that came."""

    def __init__(self, profile: int = 0x0008) -> None:
        code, size = PROFILES[profile]
        mine, theirs = os.urandom(size), os.urandom(size)
        self.keys = SrtpKeys(profile, mine, theirs)
        outbound = Policy(key=mine, ssrc_type=Policy.SSRC_ANY_OUTBOUND, srtp_profile=code)
        outbound.allow_repeat_tx = True
        self.outbound = Session(outbound)
        self.inbound = Session(Policy(key=theirs, ssrc_type=Policy.SSRC_ANY_INBOUND, srtp_profile=code))
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.address = self.socket.getsockname()
        self.transport_sequence = 65_530
        self.raw: list[bytes] = []

    def close(self) -> None:
        self.socket.close()

    def rtp(
        self,
        ssrc: int,
        sequence_number: int,
        payload: bytes,
        *,
        timestamp: int = 0,
        payload_type: int = 96,
        marker: bool = True,
        extensions: tuple[tuple[int, bytes], ...] = (),
        padding: int = 0,
    ) -> bytes:
        """A protected packet with a transport-wide sequence number."""
        number = self.transport_sequence & 0xFFFF
        self.transport_sequence += 1
        return self.outbound.protect(
            packets.build_rtp(
                payload_type=payload_type,
                sequence_number=sequence_number,
                timestamp=timestamp,
                ssrc=ssrc,
                payload=payload,
                marker=marker,
                extensions=((IDS.transport_cc, number.to_bytes(2, "big")), *extensions),
                padding=padding,
            )
        )

    def rtcp(self, *parts: bytes) -> bytes:
        return self.outbound.protect_rtcp(b"".join(parts))

    def read_raw(self, count: int, deadline_s: float = 5.0) -> list[bytes]:
        """Exactly `count` datagrams, as they came."""
        end = time.monotonic() + deadline_s
        got: list[bytes] = []
        while len(got) < count and time.monotonic() < end:
            if select.select([self.socket], [], [], 0.05)[0]:
                got.append(self.socket.recv(4096))
        assert len(got) == count, f"{len(got)} of {count} datagrams came"
        return got

    def read(self, count: int) -> list[Received]:
        return [Received(self.inbound.unprotect(data)) for data in self.read_raw(count)]

    def read_rtcp(self) -> bytes:
        return self.inbound.unprotect_rtcp(self.read_raw(1)[0])

    def silent(self) -> bool:
        return not select.select([self.socket], [], [], 0)[0]


class Received:
    """A decrypted RTP packet taken apart."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        first, second, self.sequence_number, self.timestamp, self.ssrc = packets.HEADER.unpack_from(data)
        self.marker = second >= 0x80
        self.payload_type = second & 0x7F
        _, _, start, end = packets.locate(data, len(data))
        self.payload = data[start:end]
        self.padded = bool(first & 0x20)
        self.extensions = dict(packets.extension_elements(data, len(data)))


class Stage:
    """A plane on a real socket with a publisher (transport 1) and a subscriber (transport 2), and a clock
    that tests move."""

    SSRC, RTX, OUT, OUT_RTX = 0x1111, 0x1112, 0x9999, 0x999A

    def __init__(self, profile: int = 0x0008) -> None:
        self.now = 1000.0
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.plane = PythonPlane([self.socket], lambda: self.now)
        self.publisher = Peer(profile)
        self.subscriber = Peer(profile)
        self.peers = [self.publisher, self.subscriber]
        for number, peer in enumerate(self.peers, 1):
            self.plane.add_transport(number, peer.keys, IDS if number == 1 else SUBSCRIBER_IDS)
            self.plane.set_address(number, peer.address)

    def video(self, *, rtx: bool = True, history: int = 1024, spec: TrackSpec = VIDEO) -> None:
        """Track 1 of transport 1, forwarded to transport 2 as forward 1."""
        self.plane.add_track(1, 1, spec)
        self.plane.bind_ssrc(1, self.SSRC, 1)
        if rtx:
            self.plane.bind_ssrc(1, self.RTX, 1, rtx_for=self.SSRC)
        self.plane.add_forward(1, 2, 1, self.forward_spec(rtx=rtx, history=history))

    def forward_spec(self, *, rtx: bool = True, history: int = 1024) -> ForwardSpec:
        return ForwardSpec(
            self.OUT,
            self.OUT_RTX if rtx else None,
            102,
            103 if rtx else None,
            "7",
            SUBSCRIBER_IDS,
            history,
        )

    def add_peer(self, transport: int) -> Peer:
        peer = Peer()
        self.peers.append(peer)
        self.plane.add_transport(transport, peer.keys, SUBSCRIBER_IDS)
        self.plane.set_address(transport, peer.address)
        return peer

    def feed(self, data: bytes, source: Peer | None = None) -> None:
        """One datagram from the publisher (or `source`), straight into the plane."""
        self.plane.on_datagram(data, (source or self.publisher).address, 0, self.now)

    def send(self, sequence_number: int, *, key: bool = False, body: bytes = b"frame", **more: object) -> None:
        self.feed(self.publisher.rtp(self.SSRC, sequence_number & 0xFFFF, vp8(key, body), **more))  # type: ignore[arg-type]

    def dropped(self, reason: str) -> int:
        return self.plane.counters.dropped.get(reason, 0)

    def close(self) -> None:
        self.socket.close()
        for peer in self.peers:
            peer.close()


def nack(media_ssrc: int, *lost: int) -> bytes:
    return rtcp.build_receiver_report(1) + rtcp.build_nack(1, media_ssrc, lost)
