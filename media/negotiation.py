"""What the relay says in SDP, and what it takes from a peer's SDP; pure.

Publish: the browser offers, `accept_publish` picks what the relay can carry and `publish_answer` writes the
answer. Subscribe: `subscribe_offer` writes one m-section per slot, `accept_subscribe` reads the browser's
answer. Watch (WHEP): the viewer offers to receive, `accept_watch` picks and `watch_answer` writes.

Codecs are VP8 with RTX and Opus. The relay's offers use its own payload types and extension ids, because
publishers of different browsers use different ones. Errors: RelayError("bad_sdp").
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, cast

from media.api import Kind, Track
from media.plane import ForwardSpec, HeaderExtensions, TrackSpec
from media.sdp import Codec, Description, Section, bad_sdp

MID_URI = "urn:ietf:params:rtp-hdrext:sdes:mid"
TRANSPORT_CC_URI = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"
AUDIO_LEVEL_URI = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"

_EXTENSION_FIELDS = {
    MID_URI: "mid",
    TRANSPORT_CC_URI: "transport_cc",
    AUDIO_LEVEL_URI: "audio_level",
}
# Not urn:3gpp:video-orientation: Firefox does not read it, and would show a phone's upright picture lying on its side.
# A sender without it turns the picture itself, before encoding.
_KIND_EXTENSIONS: dict[Kind, tuple[str, ...]] = {
    "audio": (MID_URI, TRANSPORT_CC_URI, AUDIO_LEVEL_URI),
    "video": (MID_URI, TRANSPORT_CC_URI),
}
# Ids of the relay's own offers.
_OWN_EXTENSIONS = {MID_URI: 1, TRANSPORT_CC_URI: 2, AUDIO_LEVEL_URI: 3}
_OPUS, _VP8, _RTX = 111, 96, 97
# Exactly one of transport-cc and REMB: a browser that is offered both is ambiguous.
_FEEDBACK: dict[Kind, tuple[str, ...]] = {
    "audio": ("transport-cc", "nack"),
    "video": ("transport-cc", "ccm fir", "nack", "nack pli"),
}
_CODECS: dict[Kind, tuple[Literal["VP8", "opus"], int]] = {"audio": ("opus", 48000), "video": ("VP8", 90000)}
_NAMES: dict[Kind, str] = {"audio": "Opus", "video": "VP8"}
_OPUS_PARAMETERS = "minptime=10;useinbandfec=1"


@dataclass(frozen=True, slots=True)
class Local:
    """The relay's side of one connection."""

    ufrag: str
    password: str
    fingerprint: str  # SHA-256
    candidates: tuple[tuple[str, int], ...]
    session_id: int
    version: int


@dataclass(frozen=True, slots=True)
class Peer:
    """The browser's side of one connection."""

    session_id: str
    ufrag: str
    password: str
    fingerprints: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Incoming:
    """One m-section of a publish offer that the relay takes. `ssrc` is None where the offer does not tell."""

    mid: str
    kind: Kind
    spec: TrackSpec
    sending: bool
    ssrc: int | None
    rtx_ssrc: int | None


@dataclass(slots=True)
class Slot:
    """One m-section of a subscribe connection. `track` is None while it rests as `inactive`."""

    mid: str
    kind: Kind
    track: Track | None = None
    ssrc: int = 0
    rtx_ssrc: int = 0


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One m-section of a WHEP offer that the relay fills."""

    mid: str
    kind: Kind
    payload_type: int
    rtx_payload_type: int | None
    extensions: HeaderExtensions
    section: Section = field(compare=False)

    def forward_spec(self, ssrc: int, rtx_ssrc: int) -> ForwardSpec:
        with_rtx = self.rtx_payload_type is not None
        return ForwardSpec(
            ssrc=ssrc,
            rtx_ssrc=rtx_ssrc if with_rtx else None,
            payload_type=self.payload_type,
            rtx_payload_type=self.rtx_payload_type,
            mid=self.mid,
            extensions=self.extensions,
        )


# ---- publish ----


def accept_publish(offer: Description) -> tuple[Peer, list[Incoming]]:
    """What of a publish offer the relay carries. The sections that are left out are answered with port 0; one that
    wants to send in other codecs is an error, because a device would go on without a word and nobody see it."""
    accepted: list[Incoming] = []
    for section in offer.sections:
        codec = _usable(offer, section)
        if codec is None:
            _check_codecs(offer, section)
            continue
        kind = cast(Kind, section.kind)
        rtx = section.rtx_for(codec) if kind == "video" else None
        # The first SSRC that is not another's retransmission is the media.
        repairs = set(section.retransmissions.values())
        ssrc = next((one for one in section.ssrcs if one not in repairs), None)
        spec = TrackSpec(
            kind=kind,
            codec=_CODECS[kind][0],
            clock_rate_hz=codec.clock_rate_hz,
            payload_type=codec.payload_type,
            rtx_payload_type=rtx.payload_type if rtx else None,
            extensions=_extensions(kind, section.extensions),
            nack=True,
        )
        accepted.append(
            Incoming(
                mid=section.mid,
                kind=kind,
                spec=spec,
                sending=section.direction in ("sendonly", "sendrecv"),
                ssrc=ssrc,
                rtx_ssrc=section.retransmissions.get(ssrc) if ssrc is not None and rtx else None,
            )
        )
    if not accepted:
        raise bad_sdp("nothing here can be taken: it needs VP8 or Opus, over DTLS, in one BUNDLE with rtcp-mux")
    numbers = [ssrc for one in accepted for ssrc in (one.ssrc, one.rtx_ssrc) if ssrc is not None]
    if len(set(numbers)) != len(numbers):
        raise bad_sdp("an SSRC is used twice")
    return peer_of(offer, [one.mid for one in accepted], setups=("actpass", "active")), accepted


def publish_answer(offer: Description, accepted: Sequence[Incoming], local: Local, start_bitrate_kbps: int) -> str:
    """The answer to a publish offer; every section keeps its place."""
    by_mid = {one.mid: one for one in accepted}
    lines = _session(local, [one.mid for one in offer.sections if one.mid in by_mid])
    for section in offer.sections:
        one = by_mid.get(section.mid)
        if one is None:
            lines += _rejected(section)
            continue
        direction = "recvonly" if one.sending else "inactive"
        rtx = one.spec.rtx_payload_type
        payload_types = (one.spec.payload_type, *(() if rtx is None else (rtx,)))
        lines += _media(one.kind, one.mid, payload_types, local, setup="passive", direction=direction)
        lines += _extension_lines(one.kind, section.extensions)
        lines += _codec_lines(
            one.kind, payload_types, _feedback(section, one), parameters=_wishes(one.kind, start_bitrate_kbps)
        )
    return _text(lines)


def _wishes(kind: Kind, start_bitrate_kbps: int) -> str:
    # Chromium's encoder stays at 320–480 px for 6 s without a start bitrate, however much room there is.
    return _OPUS_PARAMETERS if kind == "audio" else f"x-google-start-bitrate={start_bitrate_kbps}"


def _feedback(section: Section, one: Incoming | Outgoing) -> list[str]:
    payload_type = one.spec.payload_type if isinstance(one, Incoming) else one.payload_type
    offered = section.codecs[payload_type].feedback
    # Browsers do not offer NACK for audio, but do it when it is answered: it halves the concealment at 5 %
    # loss.
    return [wish for wish in _FEEDBACK[one.kind] if wish in offered or (one.kind == "audio" and wish == "nack")]


# ---- subscribe ----


def subscribe_offer(slots: Sequence[Slot], local: Local) -> str:
    """The relay's offer: one section per slot, in the order in which they came into being."""
    lines = _session(local, [slot.mid for slot in slots])
    for slot in slots:
        payload_types = (_OPUS,) if slot.kind == "audio" else (_VP8, _RTX)
        direction = "inactive" if slot.track is None else "sendonly"
        lines += _media(slot.kind, slot.mid, payload_types, local, setup="actpass", direction=direction)
        lines += _extension_lines(slot.kind, _OWN_EXTENSIONS)
        lines += _codec_lines(
            slot.kind,
            payload_types,
            _FEEDBACK[slot.kind],
            parameters=_OPUS_PARAMETERS if slot.kind == "audio" else "",
        )
        if slot.track is not None:
            rtx_ssrc = slot.rtx_ssrc if slot.kind == "video" else None
            lines += _source_lines(slot.track.participant, slot.track.id, slot.ssrc, rtx_ssrc)
    return _text(lines)


def accept_subscribe(
    answer: Description, slots: Sequence[Slot], offered_mids: Sequence[str]
) -> tuple[Peer, dict[str, ForwardSpec]]:
    """The browser's answer: who it is, and mid → how it wants the track of each slot that it receives.

    offered_mids: the mids of the offer that this answers (slots may have been added since)."""
    if [one.mid for one in answer.sections] != list(offered_mids):
        raise bad_sdp("the answer's sections are not the offer's")
    by_mid = {slot.mid: slot for slot in slots}
    taken = [one for one in answer.sections if not one.rejected]
    forwards: dict[str, ForwardSpec] = {}
    for section in taken:
        slot = by_mid[section.mid]
        if section.kind != slot.kind or not section.rtcp_mux:
            raise bad_sdp("the answer does not fit the offer")
        codec = section.codec(*_CODECS[slot.kind])
        if section.direction not in ("recvonly", "sendrecv") or codec is None or slot.track is None:
            continue
        rtx = section.rtx_for(codec) if slot.kind == "video" else None
        kept = {uri: own for uri, own in _OWN_EXTENSIONS.items() if section.extensions.get(uri) == own}
        forwards[section.mid] = ForwardSpec(
            ssrc=slot.ssrc,
            rtx_ssrc=slot.rtx_ssrc if rtx else None,
            payload_type=codec.payload_type,
            rtx_payload_type=rtx.payload_type if rtx else None,
            mid=slot.mid,
            extensions=_extensions(slot.kind, kept),
        )
    if not taken:
        raise bad_sdp("every section was refused")
    return peer_of(answer, [one.mid for one in taken], setups=("active",)), forwards


def own_extensions() -> HeaderExtensions:
    """The header extension ids of the relay's own offers."""
    return HeaderExtensions(**{_EXTENSION_FIELDS[uri]: own for uri, own in _OWN_EXTENSIONS.items()})


# ---- watch ----


def accept_watch(offer: Description) -> tuple[Peer, list[Outgoing]]:
    """What a WHEP viewer wants: at most one audio and one video section."""
    accepted: list[Outgoing] = []
    for section in offer.sections:
        codec = _usable(offer, section)
        kinds = {one.kind for one in accepted}
        if codec is None or section.kind in kinds or section.direction not in ("recvonly", "sendrecv"):
            continue
        kind = cast(Kind, section.kind)
        rtx = section.rtx_for(codec) if kind == "video" else None
        extensions = _extensions(kind, section.extensions)
        rtx_payload_type = rtx.payload_type if rtx else None
        accepted.append(Outgoing(section.mid, kind, codec.payload_type, rtx_payload_type, extensions, section))
    if not accepted:
        raise bad_sdp("no section that receives VP8 or Opus")
    return peer_of(offer, [one.mid for one in accepted], setups=("actpass", "active")), accepted


def watch_answer(offer: Description, accepted: Sequence[Outgoing], slots: Sequence[Slot], local: Local) -> str:
    """The answer to a WHEP offer. `slots` hold the SSRCs; their tracks may come later."""
    outgoing = {one.mid: one for one in accepted}
    by_mid = {slot.mid: slot for slot in slots}
    lines = _session(local, [one.mid for one in offer.sections if one.mid in outgoing])
    for section in offer.sections:
        one = outgoing.get(section.mid)
        if one is None:
            lines += _rejected(section)
            continue
        slot = by_mid[one.mid]
        rtx = one.rtx_payload_type
        payload_types = (one.payload_type, *(() if rtx is None else (rtx,)))
        lines += _media(one.kind, one.mid, payload_types, local, setup="passive", direction="sendonly")
        lines += _extension_lines(one.kind, section.extensions)
        parameters = _OPUS_PARAMETERS if one.kind == "audio" else ""
        lines += _codec_lines(one.kind, payload_types, _feedback(section, one), parameters=parameters)
        lines += _source_lines("watched", one.kind, slot.ssrc, slot.rtx_ssrc if rtx is not None else None)
    return _text(lines)


def restart_fragment(local: Local, mids: Iterable[str], tags: Sequence[str]) -> str:
    """The server's half of an ICE restart by PATCH (RFC 9725 section 4.3.3): the new credentials and
    candidates."""
    lines = ["a=ice-lite", f"a=group:BUNDLE {' '.join(mids)}"]
    lines += ["m=audio 9 UDP/TLS/RTP/SAVPF 0", f"a=mid:{tags[0]}"] if tags else []
    lines += [f"a=ice-ufrag:{local.ufrag}", f"a=ice-pwd:{local.password}", *_candidate_lines(local)]
    return _text(lines)


# ---- common ----


def merged_extensions(sections: Iterable[HeaderExtensions]) -> HeaderExtensions:
    """The ids of a bundle: a URI has the same id in every section (RFC 9143 section 7.1.3)."""
    merged: dict[str, int] = {}
    for one in sections:
        merged |= {name: getattr(one, name) for name in _EXTENSION_FIELDS.values() if getattr(one, name)}
    return HeaderExtensions(**merged)


def peer_of(description: Description, mids: Sequence[str], setups: tuple[str, ...]) -> Peer:
    """ICE and DTLS of the bundle, which is the first accepted section's (RFC 9143 section 7.2)."""
    tagged = description.section(mids[0])
    assert tagged is not None
    if tagged.ufrag is None or tagged.password is None:
        raise bad_sdp("no ICE credentials")
    if not tagged.fingerprints:
        raise bad_sdp("no fingerprint of a supported digest")
    if tagged.setup not in setups:
        raise bad_sdp("the relay must be the DTLS server: setup has to be " + " or ".join(setups))
    return Peer(description.session_id, tagged.ufrag, tagged.password, tuple(tagged.fingerprints))


def _usable(offer: Description, section: Section) -> Codec | None:
    """The codec to use for an offered section, None to refuse the section."""
    if section.rejected or section.kind not in ("audio", "video"):
        return None
    if section.protocol != "UDP/TLS/RTP/SAVPF" or not section.rtcp_mux or section.mid not in offer.bundle:
        return None
    return section.codec(*_CODECS[cast(Kind, section.kind)])


def _check_codecs(offer: Description, section: Section) -> None:
    """Raises bad_sdp when only the codec keeps a section from being sent."""
    sends = not section.rejected and section.direction in ("sendonly", "sendrecv") and section.mid in offer.bundle
    if sends and section.kind in ("audio", "video") and section.codec(*_CODECS[cast(Kind, section.kind)]) is None:
        raise bad_sdp(f"{section.kind} is offered without {_NAMES[cast(Kind, section.kind)]}: VP8 and Opus are needed")


def _extensions(kind: Kind, offered: dict[str, int]) -> HeaderExtensions:
    ids = {_EXTENSION_FIELDS[uri]: offered[uri] for uri in _KIND_EXTENSIONS[kind] if uri in offered}
    return HeaderExtensions(**ids)


def _session(local: Local, bundle: Sequence[str]) -> list[str]:
    return [
        "v=0",
        f"o=- {local.session_id} {local.version} IN IP4 127.0.0.1",
        "s=-",
        "t=0 0",
        f"a=group:BUNDLE {' '.join(bundle)}",
        "a=ice-lite",
        "a=extmap-allow-mixed",
        "a=msid-semantic: WMS *",
    ]


def _media(
    kind: Kind, mid: str, payload_types: Sequence[int], local: Local, *, setup: str, direction: str
) -> list[str]:
    ip, port = local.candidates[0]
    return [
        f"m={kind} {port} UDP/TLS/RTP/SAVPF {' '.join(map(str, payload_types))}",
        f"c=IN {'IP6' if ':' in ip else 'IP4'} {ip}",
        f"a=rtcp:{port} IN {'IP6' if ':' in ip else 'IP4'} {ip}",
        f"a=ice-ufrag:{local.ufrag}",
        f"a=ice-pwd:{local.password}",
        f"a=fingerprint:sha-256 {local.fingerprint}",
        f"a=setup:{setup}",
        f"a=mid:{mid}",
        f"a={direction}",
        "a=rtcp-mux",
        "a=rtcp-rsize",
        *_candidate_lines(local),
    ]


def _candidate_lines(local: Local) -> list[str]:
    lines = []
    for index, (ip, port) in enumerate(local.candidates):
        # RFC 8445 section 5.1.2: host type preference 126; the order of the addresses is the local
        # preference.
        priority = (126 << 24) | ((65535 - index) << 8) | 255
        lines.append(f"a=candidate:{index + 1} 1 udp {priority} {ip} {port} typ host")
    return [*lines, "a=end-of-candidates"]


def _extension_lines(kind: Kind, ids: dict[str, int]) -> list[str]:
    return [f"a=extmap:{ids[uri]} {uri}" for uri in _KIND_EXTENSIONS[kind] if uri in ids]


def _codec_lines(kind: Kind, payload_types: Sequence[int], feedback: Sequence[str], *, parameters: str) -> list[str]:
    main = payload_types[0]
    lines = [f"a=rtpmap:{main} {'opus/48000/2' if kind == 'audio' else 'VP8/90000'}"]
    lines += [f"a=rtcp-fb:{main} {one}" for one in feedback]
    if parameters:
        lines.append(f"a=fmtp:{main} {parameters}")
    for rtx in payload_types[1:]:
        lines += [f"a=rtpmap:{rtx} rtx/90000", f"a=fmtp:{rtx} apt={main}"]
    return lines


def _source_lines(stream: str, track: str, ssrc: int, rtx_ssrc: int | None) -> list[str]:
    # One CNAME per publisher ties its audio and video together for lip synchronisation.
    lines = [f"a=msid:{stream} {track}"]
    if rtx_ssrc is not None:
        lines.append(f"a=ssrc-group:FID {ssrc} {rtx_ssrc}")
    for one in (ssrc, *(() if rtx_ssrc is None else (rtx_ssrc,))):
        lines += [f"a=ssrc:{one} cname:{stream}", f"a=ssrc:{one} msid:{stream} {track}"]
    return lines


def _rejected(section: Section) -> list[str]:
    return [
        f"m={section.kind} 0 {section.protocol} {' '.join(section.formats)}",
        "c=IN IP4 0.0.0.0",
        f"a=mid:{section.mid}",
        "a=inactive",
    ]


def _text(lines: Iterable[str]) -> str:
    return "\r\n".join(lines) + "\r\n"
