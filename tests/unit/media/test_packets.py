"""RTP, RTCP and payload formats: exact on valid packets (aiortc's codec is the second opinion),
`MalformedPacket` on all others."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest
from aiortc import rtp as aiortc_rtp
from hypothesis import example, given, settings
from hypothesis import strategies as st

from media import packets, payloads, rtcp
from media.packets import MalformedPacket
from media.plane import HeaderExtensions

U8, U16, U32 = st.integers(0, 0xFF), st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFFFF)
IDS = HeaderExtensions(1, 2, 3, 4, 5, 6, 7, 8)
TABLE = packets.slot_table(IDS)
one_byte_elements = st.lists(
    st.tuples(st.integers(1, 14), st.binary(min_size=1, max_size=16)), max_size=6, unique_by=lambda e: e[0]
)
two_byte_elements = st.lists(
    st.tuples(st.integers(1, 255), st.binary(max_size=255)), max_size=4, unique_by=lambda e: e[0]
)


# ---- RTP ----


@settings(deadline=None)
@given(
    payload=st.binary(max_size=300),
    sequence_number=U16,
    timestamp=U32,
    ssrc=U32,
    payload_type=st.integers(0, 127),
    marker=st.booleans(),
    padding=st.integers(0, 255),
    elements=st.one_of(one_byte_elements, two_byte_elements),
)
def test_rtp_round_trip(
    payload: bytes,
    sequence_number: int,
    timestamp: int,
    ssrc: int,
    payload_type: int,
    marker: bool,
    padding: int,
    elements: list[tuple[int, bytes]],
) -> None:
    data = packets.build_rtp(
        payload_type=payload_type,
        sequence_number=sequence_number,
        timestamp=timestamp,
        ssrc=ssrc,
        payload=payload,
        marker=marker,
        extensions=elements,
        padding=padding,
    )
    profile, _, start, end = packets.locate(data, len(data))
    assert data[start:end] == payload
    assert bool(profile) == bool(elements)
    assert list(packets.extension_elements(data, len(data))) == elements
    other = aiortc_rtp.RtpPacket.parse(data)
    assert (other.payload, other.padding_size, other.marker) == (payload, padding, int(marker))
    assert (other.sequence_number, other.timestamp, other.ssrc) == (sequence_number, timestamp, ssrc)
    slots = [0] * packets.SLOTS
    packets.read_extensions(data, profile, packets.locate(data, len(data))[1], start, TABLE, slots)
    for extension_id, value in elements:
        if extension_id <= 8 and value:
            assert packets.slot_bytes(data, slots[extension_id]) == value


def test_csrcs_are_skipped() -> None:
    data = bytearray(packets.build_rtp(payload_type=0, sequence_number=1, timestamp=2, ssrc=3, payload=b""))
    data[0] |= 2
    assert packets.locate(bytes(data) + b"12345678" + b"pay", 23)[2:] == (20, 23)
    with pytest.raises(MalformedPacket, match="rtp_csrc"):
        packets.locate(data, len(data))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "rtp_short"),
        (b"\x80" * 11, "rtp_short"),
        (b"\x40" + bytes(11), "rtp_version"),
        (b"\x90" + bytes(11), "rtp_extension"),
        (b"\x90" + bytes(11) + b"\xbe\xde\0\1", "rtp_extension"),
        (b"\xa0" + bytes(11), "rtp_padding"),
        (b"\xa0" + bytes(11) + b"\x00", "rtp_padding"),
        (b"\xa0" + bytes(11) + b"\x02", "rtp_padding"),
    ],
)
def test_malformed_rtp_has_a_reason(data: bytes, reason: str) -> None:
    with pytest.raises(MalformedPacket) as caught:
        packets.locate(data, len(data))
    assert caught.value.reason == reason


def test_extension_parsing_stops_at_id_15_and_at_a_long_id_0() -> None:
    for stop in (b"\xf0", b"\x03"):
        block = b"\x10A" + stop + b"\x20B\0\0\0"
        slots = [0] * packets.SLOTS
        packets.read_extensions(block, packets.ONE_BYTE_PROFILE, 0, len(block), TABLE, slots)
        assert slots[packets.MID]
        assert not slots[packets.RID]


def test_unknown_extension_profiles_are_passed_over() -> None:
    slots = [0] * packets.SLOTS
    packets.read_extensions(b"\x10A\0\0", 0x1234, 0, 4, TABLE, slots)
    assert slots == packets.NO_EXTENSIONS


@pytest.mark.parametrize("block", [b"\x1f\0\0\0", b"\x12\0\0", b"\x10"])
def test_an_extension_beyond_its_block_is_malformed(block: bytes) -> None:
    with pytest.raises(MalformedPacket, match="extension_overrun"):
        packets.read_extensions(block, packets.ONE_BYTE_PROFILE, 0, len(block), TABLE, [0] * packets.SLOTS)


@pytest.mark.parametrize("block", [b"\x01", b"\x01\x02\x00"])
def test_a_two_byte_extension_beyond_its_block_is_malformed(block: bytes) -> None:
    with pytest.raises(MalformedPacket, match="extension_overrun"):
        packets.read_extensions(block, packets.TWO_BYTE_PROFILE, 0, len(block), TABLE, [0] * packets.SLOTS)


def test_extension_blocks_take_the_two_byte_form_only_when_needed() -> None:
    assert packets.extension_block([(14, b"x" * 16)])[0][:2] == b"\xbe\xde"
    for element in ((15, b"x"), (1, b"x" * 17), (1, b"")):
        assert packets.extension_block([element])[0][:2] == b"\x10\x00"
    block, offsets = packets.extension_block([(1, b"ab"), (2, b"c")])
    assert [block[o : o + n] for o, n in zip(offsets, (2, 1), strict=True)] == [b"ab", b"c"]
    assert len(block) % 4 == 0
    for element in ((0, b"x"), (256, b"x"), (1, bytes(256))):
        with pytest.raises(ValueError, match="out of range"):
            packets.extension_block([element])


def test_slots_read_as_text_and_numbers() -> None:
    data = b"\x12\x34abc\xff"
    assert packets.transport_sequence(data, 0 << 8 | 2) == 0x1234
    assert packets.transport_sequence(data, 0) == -1
    assert packets.slot_text(data, 2 << 8 | 3) == "abc"
    assert packets.slot_text(data, 4 << 8 | 2) is None
    assert packets.slot_text(data, 0) is None


def test_abs_send_time_is_seconds_in_6_18_fixed_point() -> None:
    assert packets.abs_send_time(1.0) == 1 << 18
    assert packets.abs_send_time(64.5) == 1 << 17


@settings(deadline=None)
@given(st.integers(-(1 << 40), 1 << 40), U16)
def test_extend_finds_the_nearest(reference: int, number: int) -> None:
    found = packets.extend(reference, number)
    assert found & 0xFFFF == number
    assert -0x8000 <= found - reference < 0x8000


# ---- payloads ----


@settings(deadline=None)
@given(
    picture_id=st.one_of(st.none(), st.integers(0, 0x7FFF)),
    long=st.booleans(),
    tl0=st.one_of(st.none(), U8),
    temporal=st.one_of(st.none(), st.tuples(st.integers(0, 3), st.booleans())),
    key_index=st.one_of(st.none(), st.integers(0, 31)),
    start=st.booleans(),
    inter=st.booleans(),
)
def test_vp8_descriptor(
    picture_id: int | None,
    long: bool,
    tl0: int | None,
    temporal: tuple[int, bool] | None,
    key_index: int | None,
    start: bool,
    inter: bool,
) -> None:
    flags, body = 0, b""
    if picture_id is not None:
        flags |= 0x80
        picture_id &= 0x7FFF if long else 0x7F
        body += (0x8000 | picture_id).to_bytes(2, "big") if long else bytes((picture_id,))
    if tl0 is not None:
        flags |= 0x40
        body += bytes((tl0,))
    if temporal is not None or key_index is not None:
        value = 0
        if temporal is not None:
            flags |= 0x20
            value |= temporal[0] << 6 | temporal[1] << 5
        if key_index is not None:
            flags |= 0x10
            value |= key_index
        body += bytes((value,))
    data = bytes(((0x80 if flags else 0) | (0x10 if start else 0),)) + (bytes((flags,)) if flags else b"") + body
    frame = data + bytes((0x9C | inter,)) + b"rest"
    found = payloads.parse_vp8(frame, 0, len(frame))
    assert found.length == len(data)
    assert (found.start_of_frame, found.key_frame) == (start, start and not inter)
    assert payloads.vp8_key_frame_start(frame, 0, len(frame)) == (start and not inter)
    assert found.picture_id == (-1 if picture_id is None else picture_id)
    assert found.picture_id_bits == (0 if picture_id is None else 15 if long else 7)
    assert found.tl0picidx == (-1 if tl0 is None else tl0)
    if temporal is not None:
        assert (found.temporal_id, found.layer_sync) == temporal
    assert found.key_index == (-1 if key_index is None else key_index)
    if tl0 is not None:
        assert frame[found.tl0picidx_offset] == tl0


def test_a_later_partition_is_no_key_frame_start() -> None:
    assert not payloads.vp8_key_frame_start(b"\x11\x00", 0, 2)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"\x08", True),
        (b"\x48", False),  # predicted
        (b"\x00", False),  # not the beginning of a frame
        (b"\xa8\x05\x00", True),  # short picture id, spatial layer 0
        (b"\xa8\x85\x00\x02", False),  # long picture id, spatial layer 1
        (b"\x28\x00", True),
    ],
)
def test_vp9_key_frame_start(data: bytes, expected: bool) -> None:
    assert payloads.vp9_key_frame_start(data, 0, len(data)) == expected


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"\x67", True),
        (b"\x65", True),
        (b"\x61", False),
        (b"\x78\x00\x02\x61\x00\x00\x01\x67", True),
        (b"\x78\x00\x02\x61\x00", False),
        (b"\x7c\x85", True),
        (b"\x7c\x05", False),
        (b"\x7c\x81", False),
    ],
)
def test_h264_key_frame_start(data: bytes, expected: bool) -> None:
    assert payloads.h264_key_frame_start(data, 0, len(data)) == expected


# ---- RTCP ----

blocks = st.builds(rtcp.ReportBlock, U32, U8, st.integers(-0x800000, 0x7FFFFF), U32, U32, U32, U32)


@settings(deadline=None)
@given(st.builds(rtcp.SenderInfo, U32, st.integers(0, 2**64 - 1), U32, U32, U32), st.lists(blocks, max_size=31))
def test_sender_report(info: rtcp.SenderInfo, reports: list[rtcp.ReportBlock]) -> None:
    data = rtcp.build_sender_report(info, reports)
    (chunk,) = rtcp.split(data)
    assert (chunk.packet_type, chunk.subtype) == (rtcp.SR, len(reports))
    assert rtcp.parse_sender_report(data, chunk) == info
    assert rtcp.parse_report_blocks(data, chunk) == reports
    (other,) = aiortc_rtp.RtcpPacket.parse(data)
    assert (other.ssrc, other.sender_info.ntp_timestamp) == (info.ssrc, info.ntp)
    assert [r.packets_lost for r in other.reports] == [r.packets_lost for r in reports]


@settings(deadline=None)
@given(U32, st.lists(blocks, max_size=31))
def test_receiver_report(ssrc: int, reports: list[rtcp.ReportBlock]) -> None:
    data = rtcp.build_receiver_report(ssrc, reports)
    (chunk,) = rtcp.split(data)
    assert rtcp.parse_report_blocks(data, chunk) == reports
    (other,) = aiortc_rtp.RtcpPacket.parse(data)
    assert [r.highest_sequence for r in other.reports] == [r.highest_sequence for r in reports]


def test_cumulative_loss_is_clamped() -> None:
    data = rtcp.build_receiver_report(1, [rtcp.ReportBlock(1, 0, 1 << 30, 0, 0, 0, 0)])
    assert rtcp.parse_report_blocks(data, rtcp.split(data)[0])[0].packets_lost == 0x7FFFFF


@settings(deadline=None)
@given(U32, st.text(max_size=60))
def test_sdes(ssrc: int, cname: str) -> None:
    data = rtcp.build_sdes(ssrc, cname)
    assert len(rtcp.split(data)) == 1
    (other,) = aiortc_rtp.RtcpPacket.parse(data)
    assert other.chunks[0].ssrc == ssrc
    assert other.chunks[0].items == [(1, cname.encode())]


@settings(deadline=None)
@given(U32, U32, st.integers(0, 0xFFFF), st.sets(st.integers(0, 400), max_size=120))
def test_nack(sender: int, media: int, base: int, offsets: set[int]) -> None:
    lost = [(base + offset) & 0xFFFF for offset in sorted(offsets)]
    data = rtcp.build_nack(sender, media, lost)
    (chunk,) = rtcp.split(data)
    assert rtcp.parse_nack(data, chunk) == lost
    assert rtcp.feedback_ssrcs(data, chunk) == (sender, media)
    if lost:
        (other,) = aiortc_rtp.RtcpPacket.parse(data)
        assert [number & 0xFFFF for number in other.lost] == lost  # aiortc lets them grow past 16 bits


def test_pli_and_fir() -> None:
    data = rtcp.build_pli(1, 2) + rtcp.build_fir(1, 3, 257)
    pli, fir = rtcp.split(data)
    assert (pli.packet_type, pli.subtype) == (rtcp.PSFB, rtcp.PLI_FORMAT)
    assert rtcp.feedback_ssrcs(data, pli) == (1, 2)
    assert rtcp.parse_fir(data, fir) == [(3, 1)]
    assert [type(p).__name__ for p in aiortc_rtp.RtcpPacket.parse(data)] == ["RtcpPsfbPacket"] * 2


def test_only_the_last_packet_of_a_compound_may_be_padded() -> None:
    padded = b"\xa0\xc9\x00\x02\x00\x00\x00\x01\x00\x00\x00\x04"
    assert rtcp.split(padded) == [(rtcp.RR, 0, 0, 8)]
    with pytest.raises(MalformedPacket, match="rtcp_padding"):
        rtcp.split(padded + rtcp.build_pli(1, 2))
    for wrong in (b"\x00", b"\x09", b"\xff"):
        with pytest.raises(MalformedPacket, match="rtcp_padding"):
            rtcp.split(padded[:-1] + wrong)


# ---- whatever comes ----

PARSERS: list[Callable[[bytes], object]] = [
    lambda data: packets.locate(data, len(data)),
    lambda data: list(packets.extension_elements(data, len(data))),
    lambda data: packets.read_extensions(data, 0xBEDE, 0, len(data), bytes(range(1, 9)) * 32, [0] * 9),
    lambda data: packets.read_extensions(data, 0x1005, 0, len(data), bytes(range(1, 9)) * 32, [0] * 9),
    lambda data: packets.original_sequence_number(data, 0, len(data)),
    lambda data: payloads.parse_vp8(data, 0, len(data)),
    lambda data: payloads.vp8_key_frame_start(data, 0, len(data)),
    lambda data: payloads.vp9_key_frame_start(data, 0, len(data)),
    lambda data: payloads.h264_key_frame_start(data, 0, len(data)),
    rtcp.split,
]


@settings(deadline=None)
@given(st.binary(max_size=120), st.sampled_from(PARSERS))
@example(b"", PARSERS[0])
def test_random_bytes_raise_only_malformed_packet(data: bytes, parser: Callable[[bytes], object]) -> None:
    with suppress(MalformedPacket):
        parser(data)


@settings(deadline=None)
@given(data=st.binary(max_size=120), at=st.integers(0, 20), count=st.integers(0, 31), view=st.booleans())
def test_random_rtcp_bodies_raise_only_malformed_packet(data: bytes, at: int, count: int, view: bool) -> None:
    body = data[: len(data) // 4 * 4]
    packet = bytes((0x80 | count, 200 + at % 7)) + (len(body) // 4).to_bytes(2, "big") + body
    source = memoryview(packet) if view else packet
    for chunk in rtcp.split(source):
        for parse in (
            rtcp.parse_sender_report,
            rtcp.parse_report_blocks,
            rtcp.parse_nack,
            rtcp.parse_fir,
            rtcp.feedback_ssrcs,
        ):
            with suppress(MalformedPacket):
                parse(source, chunk)
