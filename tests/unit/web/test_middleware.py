"""The frame around every handler: rules, errors, headers, static files."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from sqlalchemy.exc import OperationalError
from yarl import URL

from consult.db import Base, Database
from consult.errors import Invalid, Problem, SlotTaken, TooMany
from consult.privacy.keys import Keys
from consult.privacy.vault import Vault
from consult.settings import Settings
from signaling.directory import LocalDirectory
from signaling.relay_pool import LocalPool
from web.access import Access, access, check_every_route
from web.app import Parts, create_app
from web.keys import STATIC, Connect, PracticeInfo
from web.origin import client_address

routes = web.RouteTableDef()


@routes.get("/trial/{what}")
@routes.post("/trial/{what}")
@routes.get("/api/trial/{what}")
@access(Access.PUBLIC)
async def trial(request: web.Request) -> web.Response:
    match request.match_info["what"]:
        case "invalid":
            raise Invalid([Problem("/client/email", "missing", "Please fill this in.")])
        case "taken":
            raise SlotTaken([])
        case "many":
            raise TooMany(17)
        case "busy":
            raise web.HTTPTooManyRequests(headers={"Retry-After": "5"})
        case "outage":
            raise OperationalError("SELECT", {}, ConnectionRefusedError())
        case "crash":
            raise RuntimeError("secret detail")
        case "address":
            return web.Response(text=client_address(request))
    return web.Response(text="fine")


@routes.get("/trial-staff")
@access(Access.STAFF)
async def staff_only(_request: web.Request) -> web.Response:
    return web.Response(text="staff")


@routes.get("/trial-token")
@access(Access.API_TOKEN)
async def token_only(_request: web.Request) -> web.Response:
    return web.Response(text="token")


class NoRelay:
    """Nobody publishes in these tests."""

    def on_event(self, listener: object) -> None:
        pass


def make_app(tmp_path: Path, **env: str) -> web.Application:
    tmp_path.mkdir(exist_ok=True)
    settings = Settings.from_env(env, data_dir=tmp_path)
    database = Database(settings.database_url)
    parts = Parts(
        settings=settings,
        database=database,
        vault=Vault(Keys.generate()),
        practice=PracticeInfo(id="p", slug="default", name="Practice", zone="Europe/Berlin", language="en"),
        connect=Connect(
            directory=LocalDirectory("web", "test"),
            pool=LocalPool(NoRelay()),  # type: ignore[arg-type]
            media_flows=lambda: True,
        ),
        clock=lambda: datetime(2026, 3, 2, 9, tzinfo=UTC),
    )
    app = create_app(parts)

    async def schema(_app: web.Application) -> AsyncIterator[None]:
        async with database.engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        yield
        await database.close()

    app.cleanup_ctx.append(schema)
    app.router.add_routes(routes)
    return app


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[TestClient]:
    async with TestClient(TestServer(make_app(tmp_path))) as client:
        yield client


async def test_a_route_without_a_rule_stops_the_start(tmp_path: Path) -> None:
    app = make_app(tmp_path)

    async def forgotten(_request: web.Request) -> web.Response:
        return web.Response()

    app.router.add_get("/forgotten", forgotten)
    with pytest.raises(RuntimeError, match="GET /forgotten"):
        check_every_route(app)


async def test_a_route_without_a_rule_is_denied_at_run_time(tmp_path: Path) -> None:
    app = make_app(tmp_path)

    async def forgotten(_request: web.Request) -> web.Response:
        return web.Response()

    app.router.add_get("/forgotten", forgotten)
    async with TestClient(TestServer(app)) as client:
        assert (await client.get("/forgotten")).status == 403


async def test_a_domain_error_is_a_problem_document_for_scripts(client: TestClient) -> None:
    answer = await client.get("/api/trial/invalid")
    assert answer.status == 422
    assert answer.content_type == "application/problem+json"
    document = await answer.json()
    assert document["code"] == "invalid"
    assert document["status"] == 422
    assert document["errors"] == [{"pointer": "/client/email", "code": "missing", "detail": "Please fill this in."}]
    assert (await (await client.get("/api/trial/taken")).json())["alternatives"] == []
    many = await client.get("/api/trial/many")
    assert (many.status, many.headers["Retry-After"]) == (429, "17")
    page = await client.get("/trial/many", headers={"Accept": "text/html"})
    assert (page.status, page.headers["Retry-After"], page.content_type) == (429, "17", "text/html")


async def test_a_domain_error_is_a_page_for_people(client: TestClient) -> None:
    answer = await client.get("/trial/taken", headers={"Accept": "text/html"})
    assert answer.status == 409
    assert answer.content_type == "text/html"
    assert "This time has just been taken" in await answer.text()


async def test_a_database_outage_is_503_with_retry_after(client: TestClient) -> None:
    for path in ("/trial/outage", "/api/trial/outage"):
        answer = await client.get(path)
        assert answer.status == 503
        assert int(answer.headers["Retry-After"]) > 0


async def test_how_long_to_wait_is_told_in_every_form(client: TestClient) -> None:
    for path in ("/trial/busy", "/api/trial/busy"):
        answer = await client.get(path)
        assert (answer.status, answer.headers["Retry-After"]) == (429, "5")


async def test_a_crash_tells_nothing_about_itself(client: TestClient) -> None:
    for path in ("/trial/crash", "/api/trial/crash", "/nowhere/at/all"):
        answer = await client.get(path)
        assert answer.status in (500, 404)
        assert "secret detail" not in await answer.text()


async def test_every_answer_carries_the_security_headers(client: TestClient) -> None:
    for path in ("/trial/fine", "/trial/crash", "/missing", "/static/css/app.css", "/readyz"):
        headers = (await client.get(path)).headers
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "same-origin"
        assert path.startswith("/static/") or "camera=(self)" in headers["Permissions-Policy"]
        assert "Server" not in headers
        assert "Strict-Transport-Security" not in headers


async def test_https_adds_hsts(tmp_path: Path) -> None:
    app = make_app(tmp_path, CONSULT_PUBLIC_URL="https://consult.example")
    async with TestClient(TestServer(app)) as client:
        headers = (await client.get("/trial/fine")).headers
        assert headers["Strict-Transport-Security"].startswith("max-age=31536000")
        assert "wss://consult.example" in headers["Content-Security-Policy"]


async def test_another_sites_post_is_refused(client: TestClient) -> None:
    own = str(client.make_url("/")).rstrip("/")
    allowed: list[dict[str, str]] = [{}, {"Origin": own}, {"Sec-Fetch-Site": "same-origin"}]
    refused = [{"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}]
    for headers in allowed:
        assert (await client.post("/trial/fine", headers=headers)).status == 200
    for headers in refused:
        assert (await client.post("/trial/fine", headers=headers)).status == 403


async def test_staff_routes_send_people_to_sign_in_and_scripts_away(client: TestClient) -> None:
    page = await client.get("/trial-staff", headers={"Accept": "text/html"}, allow_redirects=False)
    assert (page.status, page.headers["Location"]) == (303, "/account/sign-in?next=/trial-staff")
    script = await client.get("/trial-staff", headers={"Accept": "application/json"})
    assert script.status == 401
    token = await client.get("/trial-token", headers={"Authorization": "Bearer wrong"})
    assert (token.status, token.headers["WWW-Authenticate"]) == (401, "Bearer")


async def test_metrics_are_for_this_machine_or_the_token(tmp_path: Path, client: TestClient) -> None:
    assert (await client.get("/metrics")).status == 200
    assert (await client.get("/metrics", headers={"X-Forwarded-For": "203.0.113.9"})).status == 401
    app = make_app(tmp_path / "token", CONSULT_METRICS_TOKEN="m" * 24)
    async with TestClient(TestServer(app)) as guarded:
        assert (await guarded.get("/metrics")).status == 401
        good = await guarded.get("/metrics", headers={"Authorization": f"Bearer {'m' * 24}"})
        assert good.status == 200
        assert "consult_http_requests_total" in await good.text()


async def test_behind_a_proxy_nobody_is_local(tmp_path: Path) -> None:
    """A proxy on this machine that adds no header would make the whole internet look local."""
    app = make_app(tmp_path, CONSULT_PUBLIC_URL="https://consult.example")
    async with TestClient(TestServer(app)) as client:
        assert (await client.get("/metrics")).status == 401
        answers = [(await client.post("/api/v1/bookings", json={})).status for _ in range(31)]
        assert answers[-1] == 429


async def test_the_last_proxys_word_counts(client: TestClient) -> None:
    """However the proxy adds it: appended to what the visitor wrote, or as a header of its own."""
    for headers in (
        [("X-Forwarded-For", "198.51.100.1, 203.0.113.9")],
        [("X-Forwarded-For", "198.51.100.1"), ("X-Forwarded-For", "203.0.113.9")],
    ):
        answer = await client.get("/trial/address", headers=headers)
        assert await answer.text() == "203.0.113.9"


async def test_a_static_file_has_one_name(client: TestClient) -> None:
    """Every other spelling would be read, compressed and kept anew."""
    files = client.server.app[STATIC]  # type: ignore[attr-defined]
    assert (await client.get("/static/css/app.css")).status == 200
    known = len(files._files)
    for name in ("css//app.css", "css///app.css", "css/app.css/", "/css/app.css", "css/a%00b", "css/" + "x" * 4_000):
        assert (await client.get(URL(f"/static/{name}", encoded=True))).status == 404, name
    assert len(files._files) == known


async def test_static_files_are_hashed_compressed_and_stay_in_their_folder(client: TestClient) -> None:
    page = await client.get("/missing")
    address = (await page.text()).split('rel="stylesheet" href="')[1].split('"')[0]
    style = await client.get(address, headers={"Accept-Encoding": "gzip"})
    assert style.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert style.headers["Content-Encoding"] == "gzip"
    again = await client.get(address, headers={"If-None-Match": style.headers["ETag"]})
    assert again.status == 304
    plain = await client.get("/static/css/app.css")
    assert plain.headers["Cache-Control"] == "no-cache"
    for escape in ("/static/..%2fapp.py", "/static/%2e%2e/app.py", "/static/v-x/../../app.py", "/static/css"):
        assert (await client.get(escape)).status == 404


async def test_a_large_body_is_refused(client: TestClient) -> None:
    answer = await client.post("/trial/fine", data=b"x" * 300_000, headers={"Content-Type": "text/plain"})
    assert answer.status in (200, 413)  # a handler that does not read it never sees it


async def test_the_page_follows_the_readers_language(client: TestClient) -> None:
    page = await client.get("/missing", headers={"Accept-Language": "ru-RU,ru;q=0.9,en;q=0.5"})
    assert '<html lang="ru"' in await page.text()
    page = await client.get("/missing", headers={"Accept-Language": "ru"}, cookies={"language": "en"})
    assert '<html lang="en"' in await page.text()
