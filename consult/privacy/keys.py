"""The key file: key-encryption keys by version, and the keys of the blind indexes and capability tokens.

JSON: {"current": 1, "keys": {"1": base64 of 32 bytes, …}, "index_key": base64, "capability_key": base64}. It lives
outside the database and outside its backups: whoever holds only one of the two can read nothing.
"""

from __future__ import annotations

import base64
import binascii
import os
import secrets
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from consult.errors import SettingsError
from consult.settings import Settings

KEY_BYTES = 32
# the owner may write, its group may read (mounted secrets), nobody else anything
FORBIDDEN_MODE = 0o027


@dataclass(frozen=True, slots=True)
class Keys:
    """Every key is 32 bytes. `wrapping` holds all versions that may still be in use, `current` wraps new data keys."""

    current: int
    wrapping: Mapping[int, bytes] = field(repr=False)
    index_key: bytes = field(repr=False)
    capability_key: bytes = field(repr=False)

    @classmethod
    def generate(cls) -> Keys:
        return cls(
            current=1,
            wrapping={1: secrets.token_bytes(KEY_BYTES)},
            index_key=secrets.token_bytes(KEY_BYTES),
            capability_key=secrets.token_bytes(KEY_BYTES),
        )


class _File(msgspec.Struct, forbid_unknown_fields=True):
    current: int
    keys: dict[str, str]
    index_key: str
    capability_key: str


def load_keys(settings: Settings) -> Keys:
    """The keys of this installation; made at the first start unless CONSULT_KEYS names a file.

    Raises SettingsError when the file is missing, open to others, or not what it should be."""
    if not settings.keys_required and not settings.keys_file.exists():
        create_key_file(settings.keys_file)
    return read_key_file(settings.keys_file)


def create_key_file(path: Path) -> None:
    """Write fresh keys with mode 0600. An existing file is never touched, also when two processes start at once."""
    keys = Keys.generate()
    content = _File(
        current=keys.current,
        keys={str(version): _encode(key) for version, key in keys.wrapping.items()},
        index_key=_encode(keys.index_key),
        capability_key=_encode(keys.capability_key),
    )
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            # link refuses an existing name: the first of two starters wins and both read its file
            os.link(temporary, path)
        except FileExistsError:
            return
    finally:
        temporary.unlink()


def read_key_file(path: Path) -> Keys:
    """Raises SettingsError("CONSULT_KEYS", …)."""
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            raw = file.read(1_000_000)
    except OSError as error:
        raise SettingsError("CONSULT_KEYS", f"expected a readable key file at {path} ({error.strerror})") from None
    if mode & FORBIDDEN_MODE:
        raise SettingsError("CONSULT_KEYS", f"{path} is open to other users (mode {mode:04o}); expected mode 0600")
    try:
        content = msgspec.json.decode(raw, type=_File)
        wrapping = {int(version): _decode(key) for version, key in content.keys.items()}
        keys = Keys(content.current, wrapping, _decode(content.index_key), _decode(content.capability_key))
    except (msgspec.DecodeError, ValueError):
        # the parser's own message could quote the file
        raise SettingsError(
            "CONSULT_KEYS",
            f'{path}: expected JSON {{"current", "keys", "index_key", "capability_key"}}, keys of 32 bytes',
        ) from None
    if keys.current not in keys.wrapping:
        raise SettingsError("CONSULT_KEYS", f"{path}: the current version {keys.current} is not among the keys")
    return keys


def _encode(key: bytes) -> str:
    return base64.b64encode(key).decode("ascii")


def _decode(text: str) -> bytes:
    try:
        key = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError("not base64") from error
    if len(key) != KEY_BYTES:
        raise ValueError("not 32 bytes")
    return key
