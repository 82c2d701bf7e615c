"""Operations of the REST API: declared once, served by aiohttp and described by the OpenAPI document."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiohttp import web

from web.access import Access, access
from web.api.decoding import json_body, query
from web.api.throttle import Rate, throttle

Handler = Callable[[web.Request, Any, Any], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path.

    `errors` maps a status to the stable codes it may carry. `query` and `body` are struct types or None.
    """

    method: str
    path: str
    name: str  # operationId
    summary: str
    rule: Access
    status: int
    answer: type[msgspec.Struct] | None
    query: type[msgspec.Struct] | None = None
    body: type[msgspec.Struct] | None = None
    body_optional: bool = False
    errors: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)  # request headers: name → description


OPERATIONS: list[Operation] = []


def operation(routes: web.RouteTableDef, rate: Rate, **declared: Any) -> Callable[[Handler], Handler]:
    """Serve `handler(request, query, body)` as declared. Arguments are those of `Operation`, without its name."""

    def attach(handler: Handler) -> Handler:
        found = Operation(name=handler.__name__, **declared)
        OPERATIONS.append(found)

        @access(found.rule)
        async def handle(request: web.Request) -> web.StreamResponse:
            await throttle(request, rate)
            parameters = query(request, found.query) if found.query is not None else None
            body = (
                await json_body(request, found.body, optional=found.body_optional) if found.body is not None else None
            )
            return await handler(request, parameters, body)

        handle.__name__ = handler.__name__
        routes.route(found.method, found.path)(handle)
        return handler

    return attach


def json_response(
    answer: msgspec.Struct, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    response = web.Response(
        body=msgspec.json.encode(answer), status=status, content_type="application/json", headers=headers
    )
    response.headers.setdefault("Cache-Control", "no-store")
    return response
