"""SDP (RFC 8866) as far as a WebRTC relay reads it; pure.

What comes in was written by a stranger: every line is bounded, numbers are range-checked, names are tokens,
and the only error is `RelayError("bad_sdp", …)`. Unknown lines and attributes are skipped, as the RFC asks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from media.api import RelayError

SDP_BYTES_MAX = 64 * 1024
LINES_MAX = 2500
LINE_CHARS_MAX = 2048
SECTIONS_MAX = 16
CODECS_MAX = 96
SSRCS_MAX = 16
FINGERPRINTS_MAX = 4

# RFC 8285's two-byte form carries 255 bytes, but a mid rides on packets: browsers write one or two
# characters.
_MID = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`{|}~-]{1,32}\Z")
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+./^_`{|}~-]{1,64}\Z")
_DIGITS = re.compile(r"[0-9]{1,20}\Z")
_ICE = re.compile(r"[A-Za-z0-9+/]+\Z")
# Sizes of the digests that the DTLS library can check, in bytes.
_DIGESTS = {"sha-256": 32, "sha-384": 48, "sha-512": 64}
_DIRECTIONS = frozenset({"sendrecv", "sendonly", "recvonly", "inactive"})


def bad_sdp(detail: str) -> RelayError:
    return RelayError("bad_sdp", detail)


@dataclass(slots=True)
class Codec:
    """One payload type of a section (`a=rtpmap`, `a=fmtp`, `a=rtcp-fb`)."""

    payload_type: int
    name: str = ""
    clock_rate_hz: int = 0
    channels: int = 1
    parameters: dict[str, str] = field(default_factory=dict)
    feedback: set[str] = field(default_factory=set)


def _is_rtp(codec: Codec) -> bool:
    """With rtcp-mux a packet of payload type 64–95 looks like RTCP (RFC 5761 section 4)."""
    return not 64 <= codec.payload_type <= 95


@dataclass(slots=True)
class Section:
    """One m-section. ICE and DTLS attributes fall back to the session's."""

    kind: str
    port: int
    protocol: str
    formats: tuple[str, ...]
    mid: str = ""
    direction: str = "sendrecv"
    bundle_only: bool = False
    rtcp_mux: bool = False
    codecs: dict[int, Codec] = field(default_factory=dict)
    extensions: dict[str, int] = field(default_factory=dict)  # URI → id
    ssrcs: list[int] = field(default_factory=list)
    retransmissions: dict[int, int] = field(default_factory=dict)  # primary SSRC → RTX SSRC (FID groups)
    ufrag: str | None = None
    password: str | None = None
    setup: str | None = None
    fingerprints: list[tuple[str, str]] = field(default_factory=list)

    @property
    def rejected(self) -> bool:
        """Port 0 means no (RFC 8866 section 5.14), unless `a=bundle-only` says that the port is another's."""
        return self.port == 0 and not self.bundle_only

    def codec(self, name: str, clock_rate_hz: int) -> Codec | None:
        """The first usable codec of this name, in the order of preference of the m-line."""
        for one in self.codecs.values():
            if one.name.lower() == name.lower() and one.clock_rate_hz == clock_rate_hz and _is_rtp(one):
                return one
        return None

    def rtx_for(self, codec: Codec) -> Codec | None:
        """The retransmission payload type of `codec` (RFC 4588 `apt`)."""
        for one in self.codecs.values():
            apt = one.parameters.get("apt")
            if one.name.lower() == "rtx" and apt == str(codec.payload_type) and _is_rtp(one):
                return one
        return None


@dataclass(frozen=True, slots=True)
class Description:
    """An offer or an answer. `session_id` is the number in `o=`: another one is another connection."""

    session_id: str
    bundle: tuple[str, ...]
    sections: tuple[Section, ...]

    def section(self, mid: str) -> Section | None:
        return next((one for one in self.sections if one.mid == mid), None)


@dataclass(frozen=True, slots=True)
class Fragment:
    """The ICE part of an `application/trickle-ice-sdpfrag` (RFC 8840 section 9). Candidates are not kept: a
    lite agent learns addresses from checks."""

    ufrag: str
    password: str
    mids: tuple[str, ...]


def parse(text: str) -> Description:
    """Parse an offer or an answer. Raises RelayError("bad_sdp")."""
    lines = _lines(text)
    session = Section("session", 0, "", ())
    sections: list[Section] = []
    bundle: tuple[str, ...] = ()
    session_id = ""
    current = session
    for kind, value in lines:
        if kind == "m":
            if len(sections) >= SECTIONS_MAX:
                raise bad_sdp("more than 16 media sections")
            current = _media_line(value)
            sections.append(current)
        elif kind == "o" and not sections:
            session_id = _origin(value)
        elif kind == "a":
            name, _, rest = value.partition(":")
            if name == "group" and not sections:
                words = rest.split()
                if words[:1] == ["BUNDLE"] and not bundle:
                    bundle = tuple(words[1:])
            else:
                _attribute(current, name, rest)
    if not session_id:
        raise bad_sdp("no o= line")
    if not sections:
        raise bad_sdp("no media section")
    for one in sections:
        one.ufrag = one.ufrag or session.ufrag
        one.password = one.password or session.password
        one.setup = one.setup or session.setup
        one.fingerprints = one.fingerprints or session.fingerprints
    _check_mids(sections)
    return Description(session_id, bundle, tuple(sections))


def parse_fragment(text: str) -> Fragment:
    """Parse a trickle-ice-sdpfrag. Raises RelayError("bad_sdp")."""
    found = Section("fragment", 0, "", ())
    mids: list[str] = []
    for kind, value in _lines(text, first=None):
        if kind != "a":
            continue
        name, _, rest = value.partition(":")
        if name == "mid":
            if len(mids) >= SECTIONS_MAX:
                raise bad_sdp("more than 16 media sections")
            _attribute(found, name, rest)
            mids.append(found.mid)
        elif name in ("ice-ufrag", "ice-pwd"):
            _attribute(found, name, rest)
    if found.ufrag is None or found.password is None:
        raise bad_sdp("the fragment has no ICE credentials")
    return Fragment(found.ufrag, found.password, tuple(mids))


def _lines(text: str, first: str | None = "v=0") -> list[tuple[str, str]]:
    # Characters are counted first: encoding megabytes to learn their size would be work for a stranger.
    if len(text) > SDP_BYTES_MAX or len(text.encode("utf-8", "replace")) > SDP_BYTES_MAX:
        raise bad_sdp("larger than 64 kB")
    raw = [line.rstrip("\r") for line in text.split("\n")]
    raw = [line for line in raw if line]
    if len(raw) > LINES_MAX:
        raise bad_sdp("too many lines")
    if not raw or (first is not None and raw[0] != first):
        raise bad_sdp("does not start with v=0")
    lines = []
    for line in raw:
        if len(line) > LINE_CHARS_MAX:
            raise bad_sdp("a line is too long")
        if len(line) < 2 or line[1] != "=" or not line[0].islower() or not line.isprintable():
            raise bad_sdp("a line is not of the form x=value")
        lines.append((line[0], line[2:]))
    return lines


def _origin(value: str) -> str:
    words = value.split(" ")
    if len(words) != 6 or not _DIGITS.match(words[1]) or not _DIGITS.match(words[2]):
        raise bad_sdp("malformed o= line")
    return words[1]


def _media_line(value: str) -> Section:
    words = value.split(" ")
    if len(words) < 4 or len(words) > 3 + CODECS_MAX or not all(_TOKEN.match(word) for word in words):
        raise bad_sdp("malformed m= line")
    kind, port, protocol, *formats = words
    section = Section(kind, _integer(port, 65535), protocol, tuple(formats))
    if kind in ("audio", "video"):
        for one in formats:
            payload_type = _integer(one, 127)
            section.codecs[payload_type] = Codec(payload_type)
    return section


def _check_mids(sections: list[Section]) -> None:
    mids = [one.mid for one in sections if one.mid]
    if len(set(mids)) != len(mids):
        raise bad_sdp("a mid is used twice")
    if len(mids) != len(sections):
        raise bad_sdp("a media section has no mid")


def _attribute(section: Section, name: str, value: str) -> None:
    reader = _READERS.get(name)
    if reader is not None:
        reader(section, value)
    elif name in _DIRECTIONS:
        section.direction = name
    elif name == "rtcp-mux":
        section.rtcp_mux = True
    elif name == "bundle-only":
        section.bundle_only = True


def _mid(section: Section, value: str) -> None:
    if not _MID.match(value):
        raise bad_sdp("malformed mid")
    section.mid = value


def _ufrag(section: Section, value: str) -> None:
    if not 4 <= len(value) <= 256 or not _ICE.match(value):
        raise bad_sdp("malformed ice-ufrag")
    section.ufrag = value


def _password(section: Section, value: str) -> None:
    if not 22 <= len(value) <= 256 or not _ICE.match(value):
        raise bad_sdp("malformed ice-pwd")
    section.password = value


def _setup(section: Section, value: str) -> None:
    if value not in ("actpass", "active", "passive"):
        raise bad_sdp("malformed setup")
    section.setup = value


def _fingerprint(section: Section, value: str) -> None:
    algorithm, _, digest = value.partition(" ")
    algorithm = algorithm.lower()
    size = _DIGESTS.get(algorithm)
    if size is None:
        return  # a digest that nobody here can check is as good as none
    pairs = digest.upper().split(":")
    if len(pairs) != size or not all(re.fullmatch("[0-9A-F]{2}", pair) for pair in pairs):
        raise bad_sdp("malformed fingerprint")
    one = (algorithm, ":".join(pairs))
    if one not in section.fingerprints:
        if len(section.fingerprints) >= FINGERPRINTS_MAX:
            raise bad_sdp("too many fingerprints")
        section.fingerprints.append(one)


def _codec(section: Section, value: str) -> tuple[Codec | None, str]:
    """The codec that an `a=…:<payload type> <rest>` line is about."""
    number, _, rest = value.partition(" ")
    return section.codecs.get(_integer(number, 127)), rest.strip()


def _rtpmap(section: Section, value: str) -> None:
    codec, rest = _codec(section, value)
    parts = rest.split("/")
    if len(parts) not in (2, 3) or not _TOKEN.match(parts[0]):
        raise bad_sdp("malformed rtpmap")
    if codec is not None:
        codec.name = parts[0]
        codec.clock_rate_hz = _integer(parts[1], 1_000_000)
        codec.channels = _integer(parts[2], 255) if len(parts) == 3 else 1


def _fmtp(section: Section, value: str) -> None:
    codec, rest = _codec(section, value)
    if codec is None:
        return
    for one in rest.split(";")[:32]:
        name, _, setting = one.strip().partition("=")
        codec.parameters[name.lower()] = setting


def _rtcp_fb(section: Section, value: str) -> None:
    if value.startswith("* "):
        codecs = list(section.codecs.values())
        rest = value[2:].strip()
    else:
        codec, rest = _codec(section, value)
        codecs = [codec] if codec is not None else []
    for one in codecs:
        if len(one.feedback) < 32:
            one.feedback.add(rest)


def _extmap(section: Section, value: str) -> None:
    number, _, rest = value.partition(" ")
    uri, _, _ = rest.partition(" ")
    identifier = _integer(number.partition("/")[0], 4351)
    # 15 is reserved in the one-byte form, 256 and above are only to be negotiated (RFC 8285 section 7).
    usable = 1 <= identifier <= 255 and identifier != 15 and identifier not in section.extensions.values()
    if uri and usable and len(section.extensions) < 64:
        section.extensions.setdefault(uri, identifier)


def _ssrc(section: Section, value: str) -> None:
    number = _integer(value.partition(" ")[0], 0xFFFFFFFF)
    if number not in section.ssrcs:
        if len(section.ssrcs) >= SSRCS_MAX:
            raise bad_sdp("too many SSRCs")
        section.ssrcs.append(number)


def _ssrc_group(section: Section, value: str) -> None:
    semantics, *numbers = value.split(" ")
    if semantics == "FID" and len(numbers) == 2:
        if len(section.retransmissions) >= SSRCS_MAX:
            raise bad_sdp("too many SSRCs")
        primary, repair = (_integer(number, 0xFFFFFFFF) for number in numbers)
        section.retransmissions[primary] = repair


def _integer(text: str, largest: int) -> int:
    if not _DIGITS.match(text) or int(text) > largest:
        raise bad_sdp("a number is out of range")
    return int(text)


_READERS: Mapping[str, Callable[[Section, str], None]] = {
    "mid": _mid,
    "ice-ufrag": _ufrag,
    "ice-pwd": _password,
    "setup": _setup,
    "fingerprint": _fingerprint,
    "rtpmap": _rtpmap,
    "fmtp": _fmtp,
    "rtcp-fb": _rtcp_fb,
    "extmap": _extmap,
    "ssrc": _ssrc,
    "ssrc-group": _ssrc_group,
}
