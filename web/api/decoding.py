"""Strict decoding of JSON bodies and query strings: every wrong field is named, not only the first."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, get_args, get_origin

import msgspec
from aiohttp import web

from consult.errors import Invalid, Problem, Refused
from web.i18n import gettext as _

T = TypeVar("T")
MAX_BODY_BYTES = 65_536


class BadBody(Refused):
    """The body is not JSON at all, or not an object."""

    code = "bad_json"
    status = 400


class WrongType(Refused):
    code = "unsupported_media_type"
    status = 415


class TooLarge(Refused):
    code = "too_large"
    status = 413


async def read_body(request: web.Request, limit: int = MAX_BODY_BYTES) -> bytes:
    """The whole body, refused as soon as it is longer than `limit` bytes."""
    if request.content_length is not None and request.content_length > limit:
        raise TooLarge(_("The request is too large."))
    body = bytearray()
    async for chunk in request.content.iter_chunked(16_384):
        body += chunk
        if len(body) > limit:
            raise TooLarge(_("The request is too large."))
    return bytes(body)


async def json_body(request: web.Request, shape: type[T], *, optional: bool = False) -> T:
    """Decode the body. `optional`: an absent body is an empty object. Raises WrongType, TooLarge, BadBody, Invalid."""
    body = await read_body(request)
    if not body and optional:
        return decode(b"{}", shape)
    if request.content_type != "application/json":
        raise WrongType(_("Send the request as application/json."))
    return decode(body, shape)


def decode(body: bytes, shape: type[T]) -> T:
    """JSON bytes → `shape`. Duplicate keys, NaN and deep nesting are refused. Raises BadBody, Invalid."""
    try:
        value = json.loads(body, object_pairs_hook=_object, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise BadBody(_("The request is not valid JSON.")) from None
    if not isinstance(value, dict):
        raise BadBody(_("The request must be a JSON object."))
    return _convert(value, shape, strict=True)


def query(request: web.Request, shape: type[T]) -> T:
    """The query string → `shape`: each parameter at most once, unknown ones refused. Raises Invalid."""
    values: dict[str, str] = {}
    problems = []
    for name, text in request.query.items():
        if name in values:
            problems.append(Problem(_pointer(name), "repeated", _("This may be given only once.")))
        values[name] = text
    if problems:
        raise Invalid(problems)
    return _convert(values, shape, strict=False)


def _convert(value: Mapping[str, Any], shape: type[T], *, strict: bool) -> T:
    problems = list(_problems(value, shape, "", strict))
    if problems:
        raise Invalid(problems)
    return msgspec.convert(value, shape, strict=strict)


def _problems(value: Any, shape: Any, pointer: str, strict: bool) -> Iterable[Problem]:
    """What is wrong with `value`, field by field where the shape is a struct."""
    inner = _struct_in(shape)
    if inner is None or not isinstance(value, dict):
        try:
            msgspec.convert(value, shape, strict=strict)
        except (msgspec.ValidationError, OverflowError) as error:
            yield Problem(pointer + _path(str(error)), "invalid", _explain(str(error)))
        return
    fields = {field.encode_name: field for field in msgspec.structs.fields(inner)}
    for name, field in fields.items():
        if name in value:
            yield from _problems(value[name], field.type, pointer + _pointer(name), strict)
        elif field.required:
            yield Problem(pointer + _pointer(name), "required", _("This is needed."))
    for name in value:
        if name not in fields:
            yield Problem(pointer + _pointer(name), "unknown", _("This field is not known."))


def _struct_in(shape: Any) -> type[msgspec.Struct] | None:
    if isinstance(shape, type) and issubclass(shape, msgspec.Struct):
        return shape
    if get_origin(shape) is not None:
        for argument in get_args(shape):
            if isinstance(argument, type) and issubclass(argument, msgspec.Struct):
                return argument
    return None


def _explain(message: str) -> str:
    reason = message.partition(" - at ")[0]
    return _("This is needed.") if reason.endswith("of length >= 1") else reason


def _path(message: str) -> str:
    """msgspec's `$.a[0]` or `$[...]` → "/a/0"; keys it does not name are left out."""
    path = message.partition(" - at `$")[2].rstrip("`")
    steps = path.replace("[", ".").replace("]", "").split(".")
    return "".join(_pointer(step) for step in steps if step and step.isidentifier() | step.isdigit())


def _pointer(step: str) -> str:
    """One step of a JSON pointer (RFC 6901 section 3)."""
    return "/" + step[:100].replace("~", "~0").replace("/", "~1")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is given twice")
    for key in found:
        key.encode()  # a lone surrogate is not text
    for value in found.values():
        if isinstance(value, str):
            value.encode()
    return found


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")
