"""The REST API over HTTP, on both databases."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consult.booking.models import Service
from consult.errors import Invalid
from tests.bookable import open_calendar
from tests.site import Site, open_site
from web.api.decoding import BadBody, decode
from web.api.schema import NewBooking
from web.api.throttle import network_of


@pytest.fixture
async def site(database_url: str, tmp_path: Path) -> AsyncIterator[Site]:
    async with open_site(database_url, tmp_path) as site:
        yield site


@pytest.fixture
async def service(site: Site) -> Service:
    return await open_calendar(site)


def wish(service: str, start: str, **changes: Any) -> dict[str, Any]:
    return {
        "service": service,
        "specialist": None,
        "start": start,
        "zone": "America/New_York",
        "client": {"name": "Jordan Example", "email": "jordan@example.org"},
        "answers": {"reason": "Sleep"},
        "consent": True,
        **changes,
    }


async def free(site: Site, service: Service, **query: str) -> list[dict[str, str]]:
    client = await site.client()
    response = await client.get("/api/v1/slots", params={"service": service.id, **query})
    assert response.status == 200, await response.text()
    return list((await response.json())["slots"])


async def test_the_catalogue_names_services_and_their_people(site: Site, service: Service) -> None:
    client = await site.client()
    (offered,) = (await (await client.get("/api/v1/services")).json())["services"]
    assert offered["id"] == service.id
    assert offered["name"] == "First consultation"
    assert offered["duration_minutes"] == 30
    assert set(offered["specialists"]) == {site.people["boris"].id, site.people["clara"].id}
    people = (await (await client.get("/api/v1/specialists")).json())["specialists"]
    assert {one["name"] for one in people} == {"Boris Example", "Clara Example"}
    assert all(one["services"] == [service.id] for one in people)


async def test_slots_are_utc_and_of_the_days_asked_for_in_the_zone(site: Site, service: Service) -> None:
    day = {"from": "2026-03-09", "to": "2026-03-09", "zone": "Europe/Berlin", "specialist": site.people["boris"].id}
    slots = await free(site, service, **day)
    # 09:00 to 16:30 in Berlin (UTC+1)
    assert [slots[0]["start"], slots[-1]["start"]] == ["2026-03-09T08:00:00Z", "2026-03-09T15:30:00Z"]
    assert slots[0]["end"] == "2026-03-09T08:30:00Z"
    assert {one["specialist"] for one in slots} == {site.people["boris"].id}
    # the same day on the other side of the world holds other instants
    elsewhere = await free(site, service, **{**day, "zone": "Pacific/Auckland"})
    assert [one["start"] for one in elsewhere] == [
        one["start"] for one in slots if one["start"] < "2026-03-09T11:00:00Z"
    ]
    everybody = await free(site, service, **{**day, "specialist": "any"})
    assert len(everybody) == 2 * len(slots)


async def test_an_unchanged_calendar_is_told_by_its_etag(site: Site, service: Service) -> None:
    client = await site.client()
    params = {"service": service.id, "from": "2026-03-09", "to": "2026-03-10"}
    first = await client.get("/api/v1/slots", params=params)
    etag = first.headers["ETag"]
    again = await client.get("/api/v1/slots", params=params, headers={"If-None-Match": etag})
    assert (again.status, await again.read()) == (304, b"")
    start = (await first.json())["slots"][0]["start"]
    assert (await client.post("/api/v1/bookings", json=wish(service.id, start))).status == 201
    changed = await client.get("/api/v1/slots", params=params, headers={"If-None-Match": etag})
    assert changed.status == 200


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ({}, "/service"),
        ({"service": "nothing"}, "/service"),
        ({"service": "*", "specialist": "nobody"}, "/specialist"),
        ({"service": "*", "zone": "Mars/Olympus"}, "/zone"),
        ({"service": "*", "from": "9 March"}, "/from"),
        ({"service": "*", "from": "2026-03-09", "to": "2026-03-08"}, "/to"),
        ({"service": "*", "from": "2026-03-01", "to": "2026-05-02"}, "/to"),
        ({"service": "*", "from": "0001-01-01", "to": "0001-01-02"}, "/from"),
        ({"service": "*", "form": "2026-03-01"}, "/form"),
    ],
)
async def test_a_wrong_slot_query_names_the_parameter(
    site: Site, service: Service, query: dict[str, str], pointer: str
) -> None:
    client = await site.client()
    params = {name: service.id if value == "*" else value for name, value in query.items()}
    response = await client.get("/api/v1/slots", params=params)
    assert response.status == 422
    assert response.content_type == "application/problem+json"
    problem = await response.json()
    assert problem["code"] == "invalid"
    assert [one["pointer"] for one in problem["errors"]] == [pointer]


async def test_booking_answers_with_the_links(site: Site, service: Service) -> None:
    client = await site.client()
    (slot, *_) = await free(site, service)
    response = await client.post("/api/v1/bookings", json=wish(service.id, slot["start"]))
    assert response.status == 201, await response.text()
    booked = await response.json()
    assert (booked["status"], booked["start"], booked["end"]) == ("confirmed", slot["start"], slot["end"])
    assert "/join/" in booked["join_url"]
    assert "#" in booked["join_url"], "the secret rides in the fragment"
    assert f"/manage/{booked['id']}#" in booked["manage_url"]
    ics = await client.get("/ics/" + booked["ics_url"].partition("/ics/")[2])
    assert ics.status == 200
    assert ics.content_type == "text/calendar"
    entry = (await ics.text()).replace("\r\n ", "")
    assert f"UID:{booked['id']}@" in entry
    assert "#" not in entry, "an address that proxies write down opens nothing but the entry"
    wrong = await client.get(f"/ics/{booked['id']}/{'x' * 32}.ics")
    assert wrong.status == 404


async def test_every_slot_shown_can_be_booked(site: Site, service: Service) -> None:
    client = await site.client()
    day = {"from": "2026-03-09", "to": "2026-03-09", "zone": "Europe/Berlin"}
    slots = await free(site, service, **day)
    assert len(slots) == 32, "two specialists, eight hours each"
    for slot in slots:
        body = wish(service.id, slot["start"], specialist=slot["specialist"])
        response = await client.post("/api/v1/bookings", json=body)
        assert response.status == 201, (slot, await response.text())
        assert (await response.json())["specialist"] == slot["specialist"]
    assert await free(site, service, **day) == []


async def test_racing_for_one_slot_has_one_winner(site: Site, service: Service) -> None:
    (slot, *_) = await free(site, service)
    racers = 200
    client = await site.client()

    async def race(number: int) -> tuple[int, dict[str, Any]]:
        body = wish(
            service.id,
            slot["start"],
            specialist=slot["specialist"],
            client={"name": f"Racer {number}", "email": f"racer{number}@example.org"},
        )
        response = await client.post("/api/v1/bookings", json=body)
        return response.status, await response.json()

    answers = await asyncio.gather(*(race(number) for number in range(racers)))
    assert sorted(status for status, _ in answers) == [201] + [409] * (racers - 1)
    for status, problem in answers:
        if status == 409:
            assert problem["code"] == "slot_taken"
            assert len(problem["alternatives"]) == 3
            assert all(one["start"] != slot["start"] for one in problem["alternatives"])


async def test_a_retry_with_its_key_is_one_booking(site: Site, service: Service) -> None:
    client = await site.client()
    (slot, *_) = await free(site, service)
    body = wish(service.id, slot["start"], specialist=slot["specialist"])
    headers = {"Idempotency-Key": "a-key-of-the-caller"}
    first, second = [await client.post("/api/v1/bookings", json=body, headers=headers) for _ in range(2)]
    assert (first.status, second.status) == (201, 201)
    assert await first.json() == await second.json()
    other = await client.post("/api/v1/bookings", json={**body, "zone": "Asia/Tokyo"}, headers=headers)
    assert other.status == 409
    assert (await other.json())["code"] == "idempotency_mismatch"


async def test_a_wrong_booking_names_every_field(site: Site, service: Service) -> None:
    client = await site.client()
    empty = await client.post("/api/v1/bookings", json={})
    assert empty.status == 422
    pointers = {one["pointer"] for one in (await empty.json())["errors"]}
    assert pointers == {"/service", "/start", "/zone", "/client", "/consent"}
    body = wish(
        service.id,
        "2026-03-09T08:00:00",
        zone="Mars/Olympus",
        client={"name": " ", "email": "no address"},
        consent=False,
    )
    wrong = await client.post("/api/v1/bookings", json=body)
    assert wrong.status == 422
    pointers = {one["pointer"] for one in (await wrong.json())["errors"]}
    assert pointers == {"/start", "/zone", "/client/name", "/client/email", "/consent"}
    garbage = await client.post(
        "/api/v1/bookings", json={**body, "service": "", "specialist": "nobody", "start": "soon", "zone": ""}
    )
    pointers = {one["pointer"] for one in (await garbage.json())["errors"]}
    assert pointers == {"/service", "/start", "/zone", "/client/name", "/client/email", "/consent"}
    typed = await client.post("/api/v1/bookings", json=wish(service.id, "2026-03-09T08:00Z", extra=1, consent="yes"))
    assert {one["pointer"] for one in (await typed.json())["errors"]} == {"/extra", "/consent"}


@pytest.mark.parametrize(
    ("body", "content_type", "status", "code"),
    [
        (b"{", "application/json", 400, "bad_json"),
        (b"[]", "application/json", 400, "bad_json"),
        (b'{"a": 1, "a": 2}', "application/json", 400, "bad_json"),
        (b'{"zone": "\\ud800"}', "application/json", 400, "bad_json"),
        (b"[" * 60_000, "application/json", 400, "bad_json"),
        (b"a=1", "application/x-www-form-urlencoded", 415, "unsupported_media_type"),
        (b"{" + b" " * 70_000 + b"}", "application/json", 413, "too_large"),
    ],
)
async def test_what_is_no_json_is_a_problem_document(
    site: Site, body: bytes, content_type: str, status: int, code: str
) -> None:
    client = await site.client()
    response = await client.post("/api/v1/bookings", data=body, headers={"Content-Type": content_type})
    assert response.status == status
    assert response.content_type == "application/problem+json"
    assert (await response.json())["code"] == code


async def test_consultations_need_the_token_of_their_practice(site: Site) -> None:
    client = await site.client()
    for headers in ({}, {"Authorization": "Bearer consult_wrong"}, {"Authorization": "Basic eA=="}):
        refused = await client.post("/api/v1/consultations", json={}, headers=headers)
        assert refused.status == 401
        assert refused.headers["WWW-Authenticate"] == "Bearer"
    token = {"Authorization": f"Bearer {await site.api_token()}"}
    opened = await client.post("/api/v1/consultations", json={"encryption": "transport"}, headers=token)
    assert opened.status == 201
    id = (await opened.json())["id"]
    seat = await client.post(
        f"/api/v1/consultations/{id}/tokens", json={"role": "participant", "name": "Camera"}, headers=token
    )
    assert seat.status == 201
    given = await seat.json()
    assert given["join_url"].endswith(f"/join/{id}#{given['token']}")
    log = await client.get(f"/api/v1/consultations/{id}", headers=token)
    assert log.status == 200
    document = await log.json()
    assert (document["status"], document["encryption"]) == ("open", "transport")
    assert [(one["name"], one["role"], one["joins"]) for one in document["participants"]] == [
        ("Camera", "participant", [])
    ]
    other = {"Authorization": f"Bearer {await site.api_token(await site.other_practice())}"}
    assert (await client.get(f"/api/v1/consultations/{id}", headers=other)).status == 404
    foreign = await client.post(f"/api/v1/consultations/{id}/tokens", json={"name": "Spy"}, headers=other)
    assert foreign.status == 404
    for wrong in ({"encryption": "none"}, {"encryption": None}):
        answer = await client.post("/api/v1/consultations", json=wrong, headers=token)
        assert answer.status == 422
        assert (await answer.json())["errors"][0]["pointer"] == "/encryption"


async def test_the_document_describes_what_is_served(site: Site, service: Service) -> None:
    client = await site.client()
    document = await (await client.get("/api/v1/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    served = {
        (route.method, route.resource.canonical)
        for route in site.app.router.routes()
        if route.resource is not None
        and route.resource.canonical.startswith("/api/v1/")
        and route.method != "HEAD"
        and not route.resource.canonical.endswith("openapi.json")
    }
    described = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert described == served
    # every reference leads somewhere
    text = json.dumps(document)
    names = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert names <= set(document["components"]["schemas"])


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=6,
)


async def test_no_input_breaks_the_api(site: Site, service: Service) -> None:
    """Mutated requests from the document: an answer below 500 to each, a problem document to each that is refused."""
    client = await site.client()
    document = await (await client.get("/api/v1/openapi.json")).json()
    headers = {"Authorization": f"Bearer {await site.api_token()}"}
    requests: list[tuple[str, str, dict[str, str], Any]] = []

    @given(data=st.data())
    @settings(max_examples=60, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    def collect(data: st.DataObject) -> None:
        path, methods = data.draw(st.sampled_from(sorted(document["paths"].items())))
        method, operation = data.draw(st.sampled_from(sorted(methods.items())))
        ids = st.sampled_from([service.id, "%00", "a", "%F0%9F%98%80", "x" * 65])
        path = path.replace("{id}", data.draw(ids))
        names = [one["name"] for one in operation["parameters"] if one["in"] == "query"]
        values = st.sampled_from(
            [service.id, "any", "2026-03-09", "9999-12-31", "0001-01-01", "UTC", "\x00", "../etc"]
        ) | st.text(max_size=20).map(lambda text: text.encode("utf-8", "ignore").decode())
        query = {name: data.draw(values) for name in names if data.draw(st.booleans())}
        body = None
        if "requestBody" in operation:
            valid: Any = wish(service.id, "2026-03-09T08:00:00Z") if path.endswith("bookings") else {}
            body = {**valid, **data.draw(st.dictionaries(st.sampled_from(
                ["service", "specialist", "start", "zone", "client", "answers", "consent", "language", "role",
                 "name", "encryption"]), json_values, max_size=2))}  # fmt: skip
        requests.append((method, path, query, body))

    collect()
    assert len(requests) >= 30
    for method, path, query, body in requests:
        response = await client.request(
            method, path, params=query, headers={**headers, "Content-Type": "application/json"},
            data=json.dumps(body) if body is not None else None,
        )  # fmt: skip
        text = await response.text()
        assert response.status < 500, (method, path, query, body, text)
        if response.status >= 400:
            assert response.content_type == "application/problem+json", (method, path, query, body, text)
            assert json.loads(text)["code"]


@given(st.binary(max_size=200) | json_values.map(lambda value: json.dumps(value).encode()))
@settings(max_examples=200, deadline=None)
def test_decoding_refuses_politely(body: bytes) -> None:
    with suppress(BadBody, Invalid):
        assert decode(body, NewBooking).consent in (True, False)


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", "unknown"),
    ],
)
def test_callers_count_by_network(address: str, network: str) -> None:
    assert network_of(address) == network


async def test_a_flood_from_one_address_is_slowed(site: Site) -> None:
    client = await site.client()
    headers = {"X-Forwarded-For": "203.0.113.9"}
    statuses = [(await client.post("/api/v1/bookings", json={}, headers=headers)).status for _ in range(31)]
    assert statuses == [422] * 30 + [429]
    limited = await client.post("/api/v1/bookings", json={}, headers=headers)
    assert 1 <= int(limited.headers["Retry-After"]) <= 60
    assert (await limited.json())["code"] == "too_many"
    other = await client.post("/api/v1/bookings", json={}, headers={"X-Forwarded-For": "203.0.113.10"})
    assert other.status == 422


async def test_times_move_with_the_clock(site: Site, service: Service) -> None:
    site.now = datetime(2026, 3, 9, 9, 0, tzinfo=UTC)
    slots = await free(site, service, **{"from": "2026-03-09", "to": "2026-03-09"})
    assert slots[0]["start"] == "2026-03-09T10:00:00Z", "an hour's notice"
    site.now += timedelta(hours=2)
    later = await free(site, service, **{"from": "2026-03-09", "to": "2026-03-09"})
    assert later[0]["start"] == "2026-03-09T12:00:00Z"
