"""API tokens: made, shown once, revoked."""

from __future__ import annotations

from aiohttp import web

from consult.errors import Invalid
from consult.people import api_tokens
from web.access import Access, access, identity
from web.forms import Form, problems_by_field
from web.i18n import gettext
from web.keys import CLOCK, DATABASE
from web.pages import render

routes = web.RouteTableDef()


@routes.get("/admin/tokens")
@access(Access.ADMIN)
async def token_list(request: web.Request) -> web.StreamResponse:
    notice = gettext("The token opens nothing any more.") if request.query.get("done") else ""
    return await _page(request, notice=notice)


async def _page(
    request: web.Request,
    *,
    plaintext: str = "",
    notice: str = "",
    problems: dict[str, str] | None = None,
    status: int = 200,
) -> web.Response:
    async with request.app[DATABASE].read() as session:
        found = await api_tokens.list_tokens(session, identity(request).practice_id)
    context = {"tokens": found, "plaintext": plaintext, "notice": notice, "problems": problems or {}}
    return render(request, "admin/tokens.html", context, status)


@routes.post("/admin/tokens")
@access(Access.ADMIN)
async def create_token(request: web.Request) -> web.StreamResponse:
    form = await Form.read(request)
    try:
        async with request.app[DATABASE].write() as session:
            _, plaintext = await api_tokens.create(
                session, identity(request).practice_id, form.text("label"), request.app[CLOCK]()
            )
    except Invalid as error:
        return await _page(request, problems=problems_by_field(error), status=error.status)
    return await _page(request, plaintext=plaintext)


@routes.post("/admin/tokens/{token}/revoke")
@access(Access.ADMIN)
async def revoke_token(request: web.Request) -> web.StreamResponse:
    async with request.app[DATABASE].write() as session:
        await api_tokens.revoke(
            session, identity(request).practice_id, request.match_info["token"][:64], request.app[CLOCK]()
        )
    raise web.HTTPSeeOther("/admin/tokens?done=1")
