"""STUN Binding messages as ICE uses them (RFC 8489, RFC 8445 section 7), on bytes; pure.

Only what a lite agent meets is read; whatever is malformed raises `MalformedStun` and nothing else.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import struct
import zlib
from dataclasses import dataclass

MAGIC_COOKIE = 0x2112A442
HEADER_BYTES = 20

BINDING_REQUEST = 0x0001
BINDING_SUCCESS = 0x0101
BINDING_ERROR = 0x0111

USERNAME = 0x0006
MESSAGE_INTEGRITY = 0x0008
ERROR_CODE = 0x0009
MESSAGE_INTEGRITY_SHA256 = 0x001C
XOR_MAPPED_ADDRESS = 0x0020
PRIORITY = 0x0024
USE_CANDIDATE = 0x0025
FINGERPRINT = 0x8028
ICE_CONTROLLED = 0x8029
ICE_CONTROLLING = 0x802A

_KNOWN_REQUIRED = frozenset({USERNAME, MESSAGE_INTEGRITY, MESSAGE_INTEGRITY_SHA256, PRIORITY, USE_CANDIDATE})
_FINGERPRINT_XOR = 0x5354554E
_USERNAME_BYTES_MAX = 513


class MalformedStun(Exception):
    """These bytes are not a STUN message that a lite agent has to answer; `args[0]` is the reason."""


@dataclass(frozen=True, slots=True)
class Message:
    """A parsed STUN message. `integrity_at` is the offset of MESSAGE-INTEGRITY, None when it has none;
    attributes behind it are not authenticated and are left out (RFC 8489 section 14.5)."""

    type: int
    transaction_id: bytes
    attributes: dict[int, bytes]
    integrity_at: int | None
    data: bytes

    def username(self) -> tuple[str, str]:
        """(local ufrag, remote ufrag) from the receiver's point of view."""
        value = self.attributes.get(USERNAME)
        if value is None or len(value) > _USERNAME_BYTES_MAX:
            raise MalformedStun("username")
        try:
            local, separator, remote = value.decode("ascii").partition(":")
        except UnicodeDecodeError:
            raise MalformedStun("username") from None
        if not separator:
            raise MalformedStun("username")
        return local, remote

    def has_integrity(self, key: bytes) -> bool:
        """Whether MESSAGE-INTEGRITY (HMAC-SHA1) is there and right for `key`."""
        if self.integrity_at is None:
            return False
        expected = _integrity(self.data[: self.integrity_at], key)
        return hmac.compare_digest(expected, self.attributes[MESSAGE_INTEGRITY])

    def unknown_required(self) -> bool:
        """Whether a comprehension-required attribute is unknown to us (RFC 8489 section 6.3.1)."""
        return any(kind < 0x8000 and kind not in _KNOWN_REQUIRED for kind in self.attributes)

    def mapped_address(self) -> tuple[str, int]:
        """XOR-MAPPED-ADDRESS of a response."""
        value = self.attributes.get(XOR_MAPPED_ADDRESS, b"")
        if len(value) not in (8, 20) or value[1] != (1 if len(value) == 8 else 2):
            raise MalformedStun("mapped address")
        pad = struct.pack("!I", MAGIC_COOKIE) + self.transaction_id
        port = int.from_bytes(value[2:4], "big") ^ (MAGIC_COOKIE >> 16)
        packed = bytes(a ^ b for a, b in zip(value[4:], pad, strict=False))
        return str(ipaddress.ip_address(packed)), port


def parse(data: bytes) -> Message:
    """Parse one datagram. FINGERPRINT is demanded and checked (RFC 8445 section 7.2.2 makes it part of every
    check)."""
    if len(data) < HEADER_BYTES or len(data) % 4:
        raise MalformedStun("length")
    kind, length, cookie = struct.unpack_from("!HHI", data)
    if kind & 0xC000 or cookie != MAGIC_COOKIE or length != len(data) - HEADER_BYTES:
        raise MalformedStun("header")
    attributes: dict[int, bytes] = {}
    integrity_at: int | None = None
    fingerprint_seen = False
    at = HEADER_BYTES
    while at < len(data):
        # The length is a multiple of four, so four bytes of attribute header are there.
        name, size = struct.unpack_from("!HH", data, at)
        end = at + 4 + size
        if end > len(data) or fingerprint_seen:
            raise MalformedStun("attribute")
        value = data[at + 4 : end]
        if name == FINGERPRINT:
            crc = zlib.crc32(data[:at]) ^ _FINGERPRINT_XOR
            if size != 4 or int.from_bytes(value, "big") != crc:
                raise MalformedStun("fingerprint")
            fingerprint_seen = True
        elif integrity_at is None:
            if name == MESSAGE_INTEGRITY:
                if size != 20:
                    raise MalformedStun("integrity")
                integrity_at = at
            attributes.setdefault(name, value)
        at = end + (-size % 4)
    if not fingerprint_seen:
        raise MalformedStun("fingerprint")
    return Message(kind, bytes(data[8:20]), attributes, integrity_at, bytes(data))


def binding_request(
    transaction_id: bytes,
    username: str,
    key: bytes,
    *,
    use_candidate: bool = False,
    controlling: bool = True,
    tiebreaker: int = 0,
) -> bytes:
    """A connectivity check (the self-probe of the relay and the tests send it)."""
    attributes = [
        (USERNAME, username.encode("ascii")),
        (PRIORITY, struct.pack("!I", (110 << 24) | (65535 << 8) | 255)),
        (ICE_CONTROLLING if controlling else ICE_CONTROLLED, struct.pack("!Q", tiebreaker)),
    ]
    if use_candidate:
        attributes.append((USE_CANDIDATE, b""))
    return _seal(BINDING_REQUEST, transaction_id, attributes, key)


def binding_success(transaction_id: bytes, mapped: tuple[str, int], key: bytes) -> bytes:
    """The answer to a check: XOR-MAPPED-ADDRESS, signed with the password the request was signed with."""
    address = ipaddress.ip_address(mapped[0]).packed
    pad = struct.pack("!I", MAGIC_COOKIE) + transaction_id
    value = struct.pack("!BBH", 0, 1 if len(address) == 4 else 2, mapped[1] ^ (MAGIC_COOKIE >> 16))
    value += bytes(a ^ b for a, b in zip(address, pad, strict=False))
    return _seal(BINDING_SUCCESS, transaction_id, [(XOR_MAPPED_ADDRESS, value)], key)


def role_conflict(transaction_id: bytes, key: bytes) -> bytes:
    """487 (RFC 8445 section 7.3.1.1), signed; without a reason phrase, to stay smaller than any request."""
    return _seal(BINDING_ERROR, transaction_id, [(ERROR_CODE, bytes((0, 0, 4, 87)))], key)


def _seal(kind: int, transaction_id: bytes, attributes: list[tuple[int, bytes]], key: bytes) -> bytes:
    body = b"".join(struct.pack("!HH", name, len(value)) + value + bytes(-len(value) % 4) for name, value in attributes)
    message = struct.pack("!HHI", kind, len(body), MAGIC_COOKIE) + transaction_id + body
    message += struct.pack("!HH", MESSAGE_INTEGRITY, 20) + _integrity(message, key)
    message = message[:2] + struct.pack("!H", len(message) - HEADER_BYTES + 8) + message[4:]
    crc = zlib.crc32(message) ^ _FINGERPRINT_XOR
    return message + struct.pack("!HHI", FINGERPRINT, 4, crc)


def _integrity(before: bytes, key: bytes) -> bytes:
    # The length field counts up to the end of MESSAGE-INTEGRITY, whatever follows it (RFC 8489 section 14.5).
    length = len(before) - HEADER_BYTES + 24
    return hmac.new(key, before[:2] + struct.pack("!H", length) + before[4:], hashlib.sha1).digest()
