"""Text frames to messages and back, strictly: what is not exactly in signaling/messages.py is refused.

Refused with `ProtocolError`, which carries the code of the answer: frames over 64 kB (too_large); what is not JSON,
nests deeper than any message does, repeats a key (two readers could see two different messages), has NUL or lone
surrogates, or a value outside the schema (malformed); a `type` that does not exist (unknown_type).
"""

from __future__ import annotations

import json
import re
from typing import Any, get_args

import msgspec

from signaling.messages import MAX_MESSAGE_BYTES, ClientMessage, ErrorCode, ServerMessage

# The deepest message is stats: {"samples": [{…}]}.
MAX_DEPTH = 4
MAX_REQUEST = 2**31 - 1

_CLIENT_TYPES = frozenset(str(kind.__struct_config__.tag) for kind in get_args(ClientMessage))
# An unclosed string runs to the end of the text, and nothing is tried twice: every frame takes linear time.
_STRINGS = re.compile(r'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)', re.DOTALL)
_encoder = msgspec.json.Encoder()
_server_decoder = msgspec.json.Decoder(ServerMessage)


class ProtocolError(Exception):
    """A frame that is no message. `request` is the frame's own, when it could be read."""

    def __init__(self, code: ErrorCode, message: str, request: int | None = None) -> None:
        super().__init__(f"{code}: {message}")
        self.code: ErrorCode = code
        self.message = message
        self.request = request


def decode(frame: str | bytes) -> ClientMessage:
    """One text frame of a browser. Raises ProtocolError and nothing else."""
    text = _text(frame)
    if _depth(text) > MAX_DEPTH:
        raise ProtocolError("malformed", "The message is nested too deeply.")
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except ProtocolError:
        raise
    except (ValueError, RecursionError) as error:
        raise ProtocolError("malformed", "The message is not JSON.") from error
    if not isinstance(value, dict):
        raise ProtocolError("malformed", "A message is a JSON object.")
    request = _request(value)
    kind = value.get("type")
    if not isinstance(kind, str):
        raise ProtocolError("malformed", "A message has a type.", request)
    if kind not in _CLIENT_TYPES:
        raise ProtocolError("unknown_type", "There is no message of this type.", request)
    try:
        message: ClientMessage = msgspec.convert(value, ClientMessage, strict=True)
    except msgspec.ValidationError as error:
        # The text names the field and the expected type, never the value: safe to send back and to log.
        raise ProtocolError("malformed", str(error), request) from error
    return message


def encode(message: ServerMessage | ClientMessage) -> bytes:
    """A message as the UTF-8 bytes of a text frame."""
    return _encoder.encode(message)


def decode_server(frame: str | bytes) -> ServerMessage:
    """What the server sent, for clients written in Python (tests, benchmarks). Raises msgspec.ValidationError."""
    message: ServerMessage = _server_decoder.decode(frame)
    return message


def _text(frame: str | bytes) -> str:
    # A string has at least as many bytes as characters, so a long one needs no encoding to be refused.
    if len(frame) > MAX_MESSAGE_BYTES:
        raise ProtocolError("too_large", "The message is larger than 64 kB.")
    try:
        if isinstance(frame, bytes):
            return frame.decode("utf-8")
        if len(frame.encode("utf-8")) > MAX_MESSAGE_BYTES:
            raise ProtocolError("too_large", "The message is larger than 64 kB.")
    except UnicodeError as error:
        raise ProtocolError("malformed", "The message is not UTF-8.") from error
    return frame


def _depth(text: str) -> int:
    """How deep brackets nest outside strings (before parsing, so that no parser recurses on hostile input)."""
    depth = deepest = 0
    for character in _STRINGS.sub("", text):
        if character in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "]}":
            depth -= 1
    return deepest


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise ProtocolError("malformed", "A key is there twice.")
        _printable(key)
        if isinstance(value, str):
            _printable(value)
        result[key] = value
    return result


def _printable(text: str) -> None:
    """NUL ends strings in databases and C parsers; a lone surrogate cannot be encoded again."""
    if "\0" in text:
        raise ProtocolError("malformed", "A text contains NUL.")
    try:
        text.encode("utf-8")
    except UnicodeError as error:
        raise ProtocolError("malformed", "A text is not Unicode.") from error


def _no_constant(name: str) -> float:
    raise ProtocolError("malformed", f"{name} is not JSON.")


def _request(value: dict[str, Any]) -> int | None:
    request = value.get("request")
    if isinstance(request, int) and not isinstance(request, bool) and 0 <= request <= MAX_REQUEST:
        return request
    return None
