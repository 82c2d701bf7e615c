"""The OpenAPI 3.1 document, made from the operations that are served. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

import msgspec

from web.access import Access
from web.api import schema
from web.api.operations import Operation

VERSION = "1"
_REFERENCE = "#/components/schemas/{name}"
_PARAMETER = re.compile(r"\{(\w+)\}")


def document(operations: Iterable[Operation], public_url: str) -> dict[str, Any]:
    """The whole document. `public_url` is the only server."""
    found = list(operations)
    shapes = [shape for one in found for shape in (one.answer, one.body, one.query) if shape is not None]
    _, components = msgspec.json.schema_components([*shapes, schema.Problem], ref_template=_REFERENCE)
    paths: dict[str, dict[str, Any]] = {}
    for one in found:
        paths.setdefault(one.path, {})[one.method.lower()] = _operation(one, components)
    # query structs become parameters; nothing refers to them
    for one in found:
        if one.query is not None:
            components.pop(one.query.__name__, None)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Consult",
            "version": VERSION,
            "description": "Booking and video consultations. Errors are problem documents (RFC 9457) with a `code`.",
        },
        "servers": [{"url": public_url}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "api_token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An API token of the practice (Admin, API tokens).",
                },
                "participant_token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "The token of a seat, from POST /api/v1/consultations/{id}/tokens.",
                },
            },
        },
    }


def _operation(one: Operation, components: Mapping[str, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": one.name,
        "summary": one.summary,
        "parameters": [*_path_parameters(one), *_query_parameters(one, components), *_header_parameters(one)],
        "responses": _responses(one),
        "security": [{"api_token": []}] if one.rule is Access.API_TOKEN else [],
    }
    if one.body is not None:
        described["requestBody"] = {
            "required": not one.body_optional,
            "content": {"application/json": {"schema": _ref(one.body)}},
        }
    return described


def _path_parameters(one: Operation) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1, "maxLength": 64}}
        for name in _PARAMETER.findall(one.path)
    ]


def _query_parameters(one: Operation, components: Mapping[str, Any]) -> list[dict[str, Any]]:
    if one.query is None:
        return []
    shape = components[one.query.__name__]
    parameters = []
    for name, described in shape["properties"].items():
        described = dict(described)
        description = described.pop("description", None)
        # a parameter is left out, never null
        options = [option for option in described.get("anyOf", []) if option != {"type": "null"}]
        if len(options) == 1:
            described.pop("anyOf")
            described |= options[0]
        if described.get("default", ...) is None:
            described.pop("default")
        parameter = {"name": name, "in": "query", "required": name in shape["required"], "schema": described}
        if description is not None:
            parameter["description"] = description
        parameters.append(parameter)
    return parameters


def _header_parameters(one: Operation) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "header", "required": False, "description": text, "schema": {"type": "string"}}
        for name, text in one.headers.items()
    ]


def _responses(one: Operation) -> dict[str, Any]:
    responses: dict[str, Any] = {str(one.status): {"description": HTTPStatus(one.status).phrase}}
    if one.answer is not None:
        responses[str(one.status)]["content"] = {"application/json": {"schema": _ref(one.answer)}}
    for status, codes in sorted(one.errors.items()):
        response: dict[str, Any] = {"description": HTTPStatus(status).phrase}
        if status >= 400:
            response["description"] += f": {', '.join(codes)}"
            response["content"] = {"application/problem+json": {"schema": _ref(schema.Problem)}}
        responses[str(status)] = response
    return responses


def _ref(shape: type[msgspec.Struct]) -> dict[str, str]:
    return {"$ref": _REFERENCE.format(name=shape.__name__)}
