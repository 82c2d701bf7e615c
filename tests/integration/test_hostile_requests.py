"""Texts that no browser sends, at every route: what cannot be an id is not found, and nothing fails on our side."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from yarl import URL

from tests.site import Client, Site, csrf_token, open_site
from web.access import Access, rule_of

# PostgreSQL refuses NUL in a text, UTF-8 a lone surrogate; a line feed would be a header of its own
HOSTILE = ("x%00y", "%ED%A0%80", "%FF", "%0D%0AX-Evil:%201", "f" * 3_000)
# who gets through to the handler
CALLER = {
    Access.ADMIN: "admin",
    Access.SPECIALIST: "specialist",
    Access.STAFF: "specialist",
    Access.SIGNING_IN: "specialist",
    Access.API_TOKEN: "api",
}
PARAMETERS = (
    *("since", "until", "specialist", "status", "quality", "after", "booking", "day", "start", "date", "month", "zone"),
    *("next", "to", "done", "service", "from", "moved"),
)
FIELDS = (
    *PARAMETERS,
    *("name", "email", "text", "title", "label", "outcome", "invitation", "password", "current", "code", "kind"),
    *("amount", "unit", "role", "language", "duration_minutes", "key", "reason", "confirm", "consent"),
)


@pytest.fixture
async def people(tmp_path: Path, database_url: str) -> Any:
    async with open_site(database_url, tmp_path) as site:
        yield (
            site,
            {
                "anonymous": (await site.client(), {}),
                "admin": await _staff(site, "anna"),
                "specialist": await _staff(site, "boris"),
                "api": (await site.client(), {"Authorization": f"Bearer {await site.api_token()}"}),
            },
        )


async def _staff(site: Site, who: str) -> tuple[Client, dict[str, str]]:
    client = await site.signed_in(who)
    return client, {"X-CSRF-Token": await csrf_token(client, "/account/password")}


async def test_no_text_in_a_request_makes_the_server_fail(people: Any) -> None:
    site, callers = people
    failed = []
    for route in site.app.router.routes():
        template = route.resource.canonical
        if route.method == "HEAD" or template in ("/ws", "/account/sign-out", "/account/sign-out-elsewhere"):
            continue
        for text in HOSTILE:
            path = re.sub(r"\{[^}]+\}", text, template)
            query = "&".join(f"{name}={text}" for name in PARAMETERS)
            role = CALLER.get(rule_of(route.handler) or Access.PUBLIC, "anonymous")
            client, headers = callers[role]
            typed = URL(f"/?a={text}", encoded=True).query["a"]
            response = await client.session.request(
                route.method,
                client.make_url("/").join(URL(f"{path}?{query}", encoded=True)),
                headers=headers,
                data=dict.fromkeys(FIELDS, typed) if route.method == "POST" else None,
                allow_redirects=False,
            )
            if response.status >= 500 or "X-Evil" in response.headers:
                failed.append(f"{role} {route.method} {template} {text[:12]}: {response.status}")
    assert failed == []
