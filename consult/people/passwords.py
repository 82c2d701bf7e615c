"""Passwords: which are accepted, and argon2id hashes of them (OWASP ASVS 5.0 chapter 6.2, NIST SP 800-63B 3.1.1).

At least 8 characters, 15 or more are suggested, up to 1024 are used in full; any characters; no composition rules.
Hashing takes tens of milliseconds and 64 MiB, so it runs in a thread (argon2 releases the interpreter lock).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from consult.errors import Problem
from consult.people.common_passwords import COMMON_PASSWORDS

SHORTEST = 8
SUGGESTED = 15
LONGEST = 1_024

# argon2id, RFC 9106 section 4: the second recommended option (64 MiB, 3 passes, 4 lanes)
_hasher = PasswordHasher(time_cost=3, memory_cost=65_536, parallelism=4, hash_len=32, salt_len=16)


@dataclass(frozen=True, slots=True)
class Verdict:
    """`ok`: the password is right. `outdated`: right, but hashed with older parameters (hash and store it anew)."""

    ok: bool
    outdated: bool = False


def problems_with(password: str, *, pointer: str = "/password", context: tuple[str, ...] = ()) -> list[Problem]:
    """Why a new password is not accepted, at most one problem; empty when it is.

    context: words an attacker tries first, e.g. the e-mail address and the practice's name."""
    if len(password) < SHORTEST:
        return [Problem(pointer, "too_short", "Use at least 8 characters. 15 or more are better, such as four words.")]
    if len(password) > LONGEST:
        return [Problem(pointer, "too_long", "Use at most 1024 characters.")]
    if not _is_text(password):
        return [Problem(pointer, "invalid", "The password has characters that cannot be typed again.")]
    folded = password.casefold()
    if folded in COMMON_PASSWORDS or _is_pattern(folded):
        return [
            Problem(pointer, "too_common", "This password is on lists that attackers try first. Choose another one.")
        ]
    for word in _words(context):
        # the word alone or with a short tail of digits and signs
        rest = folded.replace(word, "", 1)
        if word in folded and len(rest) <= 6 and not any(character.isalpha() for character in rest):
            return [
                Problem(pointer, "too_guessable", "Choose a password that does not come from your name or address.")
            ]
    return []


async def hash_password(password: str) -> str:
    """The argon2id hash in PHC string format (salt and parameters inside)."""
    return await asyncio.to_thread(_hasher.hash, password)


async def verify(stored: str | None, password: str) -> Verdict:
    """Check a password. With no stored hash (unknown user) it takes the same time and says no."""
    return await asyncio.to_thread(_verify, stored, password)


def _verify(stored: str | None, password: str) -> Verdict:
    if len(password) > LONGEST or not _is_text(password):
        password, stored = "", None
    try:
        _hasher.verify(stored if stored is not None else _nobodys_hash(), password)
    except (VerificationError, InvalidHashError):
        return Verdict(ok=False)
    if stored is None:
        return Verdict(ok=False)
    return Verdict(ok=True, outdated=_hasher.check_needs_rehash(stored))


def _is_text(password: str) -> bool:
    """False for half a surrogate pair, which JSON can carry and UTF-8 cannot."""
    return not any("\ud800" <= character <= "\udfff" for character in password)


@cache
def _nobodys_hash() -> str:
    return _hasher.hash("the password of nobody")


def _is_pattern(folded: str) -> bool:
    """One short piece repeated (aaaaaaaa, abcabcabc), or a run up or down (12345678, hgfedcba)."""
    doubled = (folded + folded).find(folded, 1)
    if doubled <= 4 and doubled < len(folded):
        return True
    steps = {ord(after) - ord(before) for before, after in pairwise(folded)}
    digits_wrap = folded in "12345678901234567890" or folded in "09876543210987654321"
    return steps in ({1}, {-1}) or digits_wrap


def _words(context: tuple[str, ...]) -> set[str]:
    words: set[str] = set()
    for text in context:
        folded = text.casefold().strip()
        words |= {folded, folded.partition("@")[0], *folded.replace("@", " ").replace(".", " ").split()}
    return {word for word in words if len(word) >= 4}
