"""The services that the signed-in specialist gives: list, edit, add. Sharing a service with others is the admin's."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from aiohttp import web
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from consult.booking import services
from consult.booking.models import Service, ServiceSpecialist
from consult.booking.services import ServiceForm
from consult.errors import Invalid, NotFound
from web.access import Access, access, identity
from web.forms import Form, problems_by_field
from web.i18n import gettext
from web.keys import CLOCK, DATABASE
from web.pages import render

routes = web.RouteTableDef()

NUMBERS = (
    "duration_minutes",
    "step_minutes",
    "buffer_before_minutes",
    "buffer_after_minutes",
    "minimum_notice_minutes",
    "horizon_days",
    "change_deadline_minutes",
)


async def own_services(session: AsyncSession, practice_id: str, specialist_id: str) -> list[Service]:
    found = await session.scalars(
        select(Service)
        .join(ServiceSpecialist, ServiceSpecialist.service_id == Service.id)
        .where(Service.practice_id == practice_id, ServiceSpecialist.specialist_id == specialist_id)
        .order_by(Service.name, Service.id)
    )
    return list(found)


async def _own(request: web.Request, session: AsyncSession) -> tuple[Service, list[str]]:
    """The service of the path and everybody who gives it; one that the caller does not give is not found."""
    person = identity(request)
    service = await session.scalar(
        select(Service).where(
            Service.practice_id == person.practice_id, Service.id == request.match_info["service"][:64]
        )
    )
    givers: list[str] = []
    if service is not None:
        givers = list(
            await session.scalars(
                select(ServiceSpecialist.specialist_id).where(ServiceSpecialist.service_id == service.id)
            )
        )
    if service is None or person.person_id not in givers:
        raise NotFound("There is no such service.")
    return service, givers


@routes.get("/desk/services")
@access(Access.SPECIALIST)
async def service_list(request: web.Request) -> web.StreamResponse:
    person = identity(request)
    async with request.app[DATABASE].read() as session:
        found = await own_services(session, person.practice_id, person.person_id)
    notice = gettext("The service is saved.") if request.query.get("done") else ""
    return render(request, "desk/services.html", {"services": found, "notice": notice})


@routes.get("/desk/services/new")
@access(Access.SPECIALIST)
async def new_service(request: web.Request) -> web.StreamResponse:
    return _form_page(request, asdict(ServiceForm(name="")), None)


@routes.get("/desk/services/{service}")
@access(Access.SPECIALIST)
async def edit_service(request: web.Request) -> web.StreamResponse:
    async with request.app[DATABASE].read() as session:
        service, givers = await _own(request, session)
    values = {name: getattr(service, name) for name in (*NUMBERS, "name", "description", "active")}
    return _form_page(request, values, service.id, shared=len(givers) > 1)


def _form_page(
    request: web.Request,
    values: dict[str, Any],
    service_id: str | None,
    *,
    shared: bool = False,
    problems: dict[str, str] | None = None,
    status: int = 200,
) -> web.Response:
    context = {"values": values, "service_id": service_id, "shared": shared, "problems": problems or {}}
    return render(request, "desk/service.html", context, status)


def _typed(form: Form) -> dict[str, Any]:
    return {
        "name": form.text("name"),
        "description": form.text("description"),
        "active": form.flag("active"),
        **{name: form.number(name) for name in NUMBERS},
    }


@routes.post("/desk/services/new")
@access(Access.SPECIALIST)
async def create(request: web.Request) -> web.StreamResponse:
    person, form = identity(request), await Form.read(request)
    typed = _typed(form)
    try:
        async with request.app[DATABASE].write() as session:
            wanted = ServiceForm(**typed, specialist_ids=[person.person_id])
            await services.create_service(session, person.practice_id, wanted, request.app[CLOCK]())
    except Invalid as error:
        return _form_page(request, _again(typed, form), None, problems=problems_by_field(error), status=error.status)
    raise web.HTTPSeeOther("/desk/services?done=1")


@routes.post("/desk/services/{service}")
@access(Access.SPECIALIST)
async def save(request: web.Request) -> web.StreamResponse:
    person, form = identity(request), await Form.read(request)
    typed = _typed(form)
    try:
        async with request.app[DATABASE].write() as session:
            service, givers = await _own(request, session)
            # after a mistake the service itself cannot be read any more: its transaction is undone
            service_id, shared = service.id, len(givers) > 1
            wanted = ServiceForm(**typed, specialist_ids=givers)
            await services.update_service(session, person.practice_id, service_id, wanted)
    except Invalid as error:
        shown = _again(typed, form)
        return _form_page(
            request, shown, service_id, shared=shared, problems=problems_by_field(error), status=error.status
        )
    raise web.HTTPSeeOther("/desk/services?done=1")


def _again(typed: dict[str, Any], form: Form) -> dict[str, Any]:
    """What was typed, also where it was no number."""
    return typed | {name: form.text(name) for name in NUMBERS}
