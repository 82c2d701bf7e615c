"""web/static/js/protocol.js from signaling/messages.py.

    python -m signaling.generate > web/static/js/protocol.js
    python -m signaling.generate --check        # exit status 1 when the file is not what would be generated

The output is an ES module without dependencies: JSDoc typedefs of every message (`tsc --checkJs` narrows the unions
by `type`), the constants, `encode` and `decode`. It validates nothing: the browser trusts its own server.
"""

from __future__ import annotations

import inspect as python_inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import msgspec
from msgspec import inspect

from signaling import messages

TARGET = Path(__file__).resolve().parent.parent / "web" / "static" / "js" / "protocol.js"
COMMAND = "python -m signaling.generate > web/static/js/protocol.js"

_HEADER = f"""// Generated from signaling/messages.py. Do not edit; run: {COMMAND}
"""

_FUNCTIONS = """
const SERVER_TYPES = new Set(SERVER_MESSAGE_TYPES);

/**
 * A message as the text of a WebSocket frame.
 * @param {ClientMessage} message
 * @returns {string}
 */
export function encode(message) {
  return JSON.stringify(message);
}

/**
 * The message in a WebSocket frame; null for a type that this page does not know (the server is newer: ignore it).
 * @param {string} text
 * @returns {ServerMessage | null}
 */
export function decode(text) {
  const message = JSON.parse(text);
  return SERVER_TYPES.has(message.type) ? message : null;
}
"""


def generate() -> str:
    """The whole text of protocol.js."""
    client, server = get_args(messages.ClientMessage), get_args(messages.ServerMessage)
    literals = {
        name: value
        for name, value in vars(messages).items()
        if get_origin(value) is Literal and not name.startswith("_")
    }
    names = {get_args(value): name for name, value in literals.items()}
    sent = _reachable(client)
    parts = [_HEADER]
    parts += [f"export const {name} = {getattr(messages, name)};" for name in _constants()]
    parts += [_array("CLIENT_MESSAGE_TYPES", client), _array("SERVER_MESSAGE_TYPES", server), ""]
    parts += [f"/** @typedef {{{_union(get_args(value))}}} {name} */" for name, value in literals.items()]
    for struct in _structs(client, server):
        parts.append(_typedef(struct, names, optional=struct in sent))
    parts.append(f"\n/** @typedef {{{' | '.join(kind.__name__ for kind in client)}}} ClientMessage */")
    parts.append(f"/** @typedef {{{' | '.join(kind.__name__ for kind in server)}}} ServerMessage */")
    return "\n".join(parts) + "\n" + _FUNCTIONS


def _constants() -> Iterator[str]:
    for name, value in vars(messages).items():
        if name.isupper() and isinstance(value, int):
            yield name


def _array(name: str, kinds: tuple[Any, ...]) -> str:
    lines = "".join(f'\n  "{kind.__struct_config__.tag}",' for kind in kinds)
    return f"/** @type {{readonly string[]}} */\nexport const {name} = Object.freeze([{lines}\n]);"


def _union(values: tuple[Any, ...]) -> str:
    return " | ".join(f'"{value}"' if isinstance(value, str) else str(value) for value in values)


def _reachable(kinds: tuple[Any, ...]) -> set[type]:
    """The structs that appear in these messages, themselves included."""
    found: set[type] = set()

    def visit(node: inspect.Type) -> None:
        if isinstance(node, inspect.StructType):
            if node.cls not in found:
                found.add(node.cls)
                for field in node.fields:
                    visit(field.type)
        elif isinstance(node, inspect.ListType):
            visit(node.item_type)
        elif isinstance(node, inspect.DictType):
            visit(node.value_type)
        elif isinstance(node, inspect.UnionType):
            for member in node.types:
                visit(member)
        elif isinstance(node, inspect.Metadata):
            visit(node.type)

    for kind in kinds:
        visit(inspect.type_info(kind))
    return found


def _structs(client: tuple[Any, ...], server: tuple[Any, ...]) -> list[type[msgspec.Struct]]:
    """All structs in the order of the source."""
    wanted = _reachable(client) | _reachable(server)
    return [value for value in vars(messages).values() if isinstance(value, type) and value in wanted]


def _typedef(struct: type[msgspec.Struct], names: dict[tuple[Any, ...], str], *, optional: bool) -> str:
    """`optional`: browsers may leave out fields with defaults; the server always writes all."""
    info = inspect.type_info(struct)
    assert isinstance(info, inspect.StructType)
    lines = ["", "/**"]
    # A struct without a docstring of its own has none here (msgspec writes no signature into __doc__).
    documentation = struct.__dict__.get("__doc__")
    if documentation:
        lines += [f" * {line}".rstrip() for line in python_inspect.cleandoc(documentation).splitlines()]
    lines.append(f" * @typedef {{object}} {struct.__name__}")
    if info.tag is not None:
        lines.append(f' * @property {{"{info.tag}"}} type')
    for field in info.fields:
        name = f"[{field.encode_name}]" if optional and not field.required else field.encode_name
        lines.append(f" * @property {{{_type(field.type, names)}}} {name}")
    return "\n".join([*lines, " */"])


def _type(node: inspect.Type, names: dict[tuple[Any, ...], str]) -> str:
    match node:
        case inspect.Metadata():
            return _type(node.type, names)
        case inspect.StrType():
            return "string"
        case inspect.IntType() | inspect.FloatType():
            return "number"
        case inspect.BoolType():
            return "boolean"
        case inspect.NoneType():
            return "null"
        case inspect.LiteralType():
            return _literal(node.values, names)
        case inspect.StructType():
            return node.cls.__name__
        case inspect.ListType():
            return f"{_type(node.item_type, names)}[]"
        case inspect.DictType():
            return f"{{[key: string]: {_type(node.value_type, names)}}}"
        case inspect.UnionType():
            return " | ".join(_type(member, names) for member in node.types)
    raise TypeError(f"no JavaScript for {node}")


def _literal(values: tuple[Any, ...], names: dict[tuple[Any, ...], str]) -> str:
    for members, name in names.items():
        if set(members) == set(values):
            return name
    return _union(tuple(sorted(values)))


def main(arguments: list[str]) -> int:
    text = generate()
    if arguments == ["--check"]:
        if TARGET.is_file() and TARGET.read_text("utf-8") == text:
            return 0
        sys.stderr.write(f"{TARGET.name} is out of date; run: {COMMAND}\n")
        return 1
    if arguments:
        sys.stderr.write("usage: python -m signaling.generate [--check]\n")
        return 2
    sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
