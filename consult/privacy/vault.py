"""Personal data at rest: a data key per person, wrapped by a versioned key-encryption key; AES-256-GCM per field.

A sealed field is `format (1 byte) ‖ data key version (4 bytes) ‖ nonce (12) ‖ ciphertext and tag`; its AAD is
`table|column|row|subject|version`, so a value moved to another row, column or person does not open. Deleting a
person's data keys makes all of it unreadable, wherever copies lie.

Look-ups use blind indexes (HMAC-SHA-256 under a key per column). Capability tokens are derived, not stored.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import struct
import unicodedata
from collections import OrderedDict
from collections.abc import Iterable
from datetime import datetime

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from consult.db import new_id
from consult.errors import ConsultError
from consult.people.models import DataKey
from consult.privacy.keys import Keys

FORMAT = 1
NONCE_BYTES = 12
CAPABILITY_LENGTH = 32  # base64url characters: 192 bits
CACHED_KEYS_MAX = 4_096
_HEADER = struct.Struct("!BI")


class VaultError(ConsultError):
    """A sealed value cannot be opened here. The message names the field, never its content."""


class KeyMissing(VaultError):
    """The person's data key is gone (erased), or the key-encryption key of its version is not in the key file."""


class Tampered(VaultError):
    """The value was altered, moved to another row, or sealed under another key."""


class Keyring:
    """The data keys of some people, for sealing and opening without further queries."""

    def __init__(self) -> None:
        self._keys: dict[str, dict[int, AESGCM]] = {}

    def __contains__(self, person_id: str) -> bool:
        return person_id in self._keys

    def add(self, person_id: str, version: int, key: AESGCM) -> None:
        self._keys.setdefault(person_id, {})[version] = key

    def seal(self, field: str, row_id: str, person_id: str, text: str) -> bytes:
        """Encrypt one field. `field` is "table.column". Raises KeyMissing for a person outside the ring."""
        versions = self._keys.get(person_id)
        if not versions:
            raise KeyMissing(f"no data key to seal {field}")
        version = max(versions)
        nonce = secrets.token_bytes(NONCE_BYTES)
        sealed = versions[version].encrypt(nonce, text.encode("utf-8"), _aad(field, row_id, person_id, version))
        return _HEADER.pack(FORMAT, version) + nonce + sealed

    def open(self, field: str, row_id: str, person_id: str, sealed: bytes) -> str:
        """Decrypt one field. Raises KeyMissing or Tampered."""
        if len(sealed) < _HEADER.size + NONCE_BYTES + 16:
            raise Tampered(f"{field} is too short to be a sealed value")
        written_as, version = _HEADER.unpack_from(sealed)
        if written_as != FORMAT:
            raise Tampered(f"{field} has an unknown format")
        key = self._keys.get(person_id, {}).get(version)
        if key is None:
            raise KeyMissing(f"no data key to open {field}")
        body = _HEADER.size + NONCE_BYTES
        try:
            plain = key.decrypt(sealed[_HEADER.size : body], sealed[body:], _aad(field, row_id, person_id, version))
        except InvalidTag:
            raise Tampered(f"{field} does not open") from None
        return plain.decode("utf-8")

    def open_or(self, default: str, field: str, row_id: str, person_id: str, sealed: bytes) -> str:
        """As `open`, but `default` for an erased person (their rows stay in the log). Tampered still raises."""
        try:
            return self.open(field, row_id, person_id, sealed)
        except KeyMissing:
            return default


class Vault:
    """One per process. Holds the key-encryption keys; data keys come wrapped from the database."""

    def __init__(self, keys: Keys) -> None:
        self._current = keys.current
        self._wrapping = {version: AESGCM(key) for version, key in keys.wrapping.items()}
        self._email_key = _derive(keys.index_key, "person.email")
        self._capability_key = keys.capability_key
        # by place and wrapped bytes: a key that was replaced or erased in the database is never found here
        self._unwrapped: OrderedDict[tuple[str, int, int, bytes], AESGCM] = OrderedDict()

    async def keyring(self, session: AsyncSession, person_ids: Iterable[str]) -> Keyring:
        """The data keys of these people in one query. People without a key (erased) are left out."""
        ring = Keyring()
        wanted = set(person_ids)
        if not wanted:
            return ring
        rows = await session.execute(
            select(DataKey.person_id, DataKey.version, DataKey.kek_version, DataKey.wrapped).where(
                DataKey.person_id.in_(wanted)
            )
        )
        for person_id, version, kek_version, wrapped in rows:
            ring.add(person_id, version, self._unwrap(person_id, version, kek_version, wrapped))
        return ring

    async def new_person_key(self, session: AsyncSession, person_id: str, now: datetime) -> Keyring:
        """Create a new person's first data key (call it before sealing the person's row; either may be added first)."""
        key = AESGCM.generate_key(bit_length=256)
        version = 1
        nonce = secrets.token_bytes(NONCE_BYTES)
        aad = _wrap_aad(person_id, version, self._current)
        wrapped = nonce + self._wrapping[self._current].encrypt(nonce, key, aad)
        session.add(
            DataKey(
                id=new_id(),
                person_id=person_id,
                version=version,
                kek_version=self._current,
                wrapped=wrapped,
                created_at=now,
            )
        )
        cipher = AESGCM(key)
        self._remember((person_id, version, self._current, wrapped), cipher)
        ring = Keyring()
        ring.add(person_id, version, cipher)
        return ring

    def email_index(self, email: str) -> bytes:
        """32 bytes that equal addresses share: HMAC-SHA-256 over the trimmed, NFKC- and case-folded address."""
        normal = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", email).strip().casefold())
        return hmac.digest(self._email_key, normal.encode("utf-8", "surrogatepass"), hashlib.sha256)

    def capability(self, purpose: str, id: str) -> str:
        """The secret that proves a right to `id` for one purpose, e.g. ("join", participant id). 32 characters."""
        mac = hmac.digest(self._capability_key, f"{purpose}|{id}".encode("utf-8", "surrogatepass"), hashlib.sha256)
        return base64.urlsafe_b64encode(mac).decode("ascii")[:CAPABILITY_LENGTH]

    def check_capability(self, purpose: str, id: str, token: str) -> bool:
        """Constant time in the token's content."""
        return hmac.compare_digest(self.capability(purpose, id).encode(), token.encode("utf-8", "surrogatepass"))

    def token(self, purpose: str, id: str) -> str:
        """`{id}.{capability}`: what stands in a link."""
        return f"{id}.{self.capability(purpose, id)}"

    def token_id(self, purpose: str, token: str) -> str | None:
        """The id a token of `token()` proves, or None when it proves nothing."""
        id, separator, mac = token.partition(".")
        if not separator or not self.check_capability(purpose, id, mac):
            return None
        return id

    def _unwrap(self, person_id: str, version: int, kek_version: int, wrapped: bytes) -> AESGCM:
        place = (person_id, version, kek_version, wrapped)
        cached = self._unwrapped.get(place)
        if cached is not None:
            self._unwrapped.move_to_end(place)
            return cached
        wrapping = self._wrapping.get(kek_version)
        if wrapping is None:
            raise KeyMissing(f"the key file has no key-encryption key of version {kek_version}")
        try:
            aad = _wrap_aad(person_id, version, kek_version)
            key = wrapping.decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], aad)
        except (InvalidTag, ValueError):
            raise Tampered("a data key does not open under its key-encryption key") from None
        cipher = AESGCM(key)
        self._remember(place, cipher)
        return cipher

    def _remember(self, place: tuple[str, int, int, bytes], cipher: AESGCM) -> None:
        self._unwrapped[place] = cipher
        while len(self._unwrapped) > CACHED_KEYS_MAX:
            self._unwrapped.popitem(last=False)


def _aad(field: str, row_id: str, person_id: str, version: int) -> bytes:
    table, separator, column = field.partition(".")
    parts = (table, column, row_id, person_id)
    if not separator or not all(parts) or any("|" in part for part in parts):
        raise ValueError(f"not a field address: {field}")
    return "|".join((*parts, str(version))).encode("utf-8")


def _wrap_aad(person_id: str, version: int, kek_version: int) -> bytes:
    return f"data_key|wrapped|{person_id}|{version}|{kek_version}".encode()


def _derive(key: bytes, purpose: str) -> bytes:
    """A key per purpose (HKDF-Expand with one block, RFC 5869 section 2.3; the input key is uniform)."""
    return hmac.digest(key, purpose.encode("utf-8") + b"\x01", hashlib.sha256)
