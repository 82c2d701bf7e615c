"""Static files: read once, compressed once, addressed by a hash of the whole tree.

`/static/v-<hash>/js/room.js` may be cached for ever, and a module's relative import stays under the same hash, so a
page never mixes files of two releases. An old hash is answered with the current file and without caching.
"""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from aiohttp import web

from web.access import Access, access
from web.keys import STATIC

ROOT = Path(__file__).parent / "static"
_COMPRESSIBLE = ("text/", "application/json", "application/javascript", "image/svg+xml", "application/manifest+json")
_TYPES = {
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".svg": "image/svg+xml",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
    ".wasm": "application/wasm",
}


@dataclass(frozen=True, slots=True)
class StaticFile:
    body: bytes
    gzipped: bytes | None
    content_type: str
    etag: str
    modified_ns: int


class StaticFiles:
    """The tree under `root`. A file that changes on disk is read again."""

    def __init__(self, root: Path = ROOT) -> None:
        self._root = root.resolve()
        self._files: dict[str, StaticFile] = {}
        digest = hashlib.sha256()
        for path in sorted(self._root.rglob("*")):
            if path.is_file() and not path.name.startswith("."):
                name = path.relative_to(self._root).as_posix()
                file = self._files[name] = _read(path)
                digest.update(f"{name}\0{file.etag}\n".encode())
        self.version = digest.hexdigest()[:12]

    def url(self, name: str) -> str:
        """The cacheable address of a file. A name that does not exist is a programming error."""
        if self.find(name) is None:
            raise LookupError(f"no static file {name}")
        return f"/static/v-{self.version}/{name}"

    def find(self, name: str) -> StaticFile | None:
        if not name.isprintable() or "/." in f"/{name}" or PurePosixPath(name).as_posix() != name:
            # one name per file: each other spelling (a//b) would be kept as a file of its own
            return None
        try:
            path = (self._root / name).resolve()
            modified_ns = path.stat().st_mtime_ns
        except OSError:
            return None
        if not path.is_relative_to(self._root):
            return None
        known = self._files.get(name)
        if known is None or known.modified_ns != modified_ns:
            if not path.is_file():
                return None
            known = self._files[name] = _read(path)
        return known


def _read(path: Path) -> StaticFile:
    body = path.read_bytes()
    kind = _TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    gzipped = gzip.compress(body, 9, mtime=0) if kind.startswith(_COMPRESSIBLE) and len(body) > 512 else None
    return StaticFile(
        body=body,
        gzipped=gzipped if gzipped is not None and len(gzipped) < len(body) else None,
        content_type=kind,
        etag=hashlib.sha256(body).hexdigest()[:20],
        modified_ns=path.stat().st_mtime_ns,
    )


routes = web.RouteTableDef()


@routes.get("/static/{name:.+}")
@access(Access.PUBLIC)
async def static_file(request: web.Request) -> web.StreamResponse:
    files = request.app[STATIC]
    name = request.match_info["name"]
    current = False
    if name.startswith("v-"):
        version, _, name = name.partition("/")
        current = version == f"v-{files.version}"
    file = files.find(name)
    if file is None:
        raise web.HTTPNotFound
    headers = {
        "Cache-Control": "public, max-age=31536000, immutable" if current else "no-cache",
        "ETag": f'"{file.etag}"',
        "Vary": "Accept-Encoding",
    }
    if any(tag.value in (file.etag, "*") for tag in request.if_none_match or ()):
        return web.Response(status=304, headers=headers)
    body = file.body
    if file.gzipped is not None and "gzip" in request.headers.get("Accept-Encoding", ""):
        body, headers["Content-Encoding"] = file.gzipped, "gzip"
    charset = "utf-8" if file.content_type.startswith("text/") else None
    return web.Response(body=body, content_type=file.content_type, charset=charset, headers=headers)
