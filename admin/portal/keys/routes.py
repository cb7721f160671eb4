"""Listing, making, rotating and revoking keys; everything that changes one asks for a fresh proof of who it is."""

from datetime import timedelta
from uuid import UUID

from litestar import Response, get, post
from litestar.params import FromPath

from admin.access import trail
from admin.portal.keys.making import make_key_of
from admin.portal.keys.views import (
    EXPIRIES,
    GRACES,
    KeyList,
    KeyPage,
    KeyRow,
    MadePage,
    NewKeyForm,
    NewKeyPage,
    RotateForm,
    grace_of,
    scopes_of,
)
from admin.portal.offers import models_offered
from admin.portal.playground.key import is_playgrounds
from admin.portal.snippets import Snippet, snippets
from admin.web.admission import Access
from admin.web.errors import status_of
from admin.web.forms import read_form
from admin.web.pages import REFUSALS, Problem, page, problem_of, redirect
from admin.web.parts import PageRequest, Parts, account_in, parts_of, visitor_in
from gateway.accounts import service as accounts
from gateway.clock import month_of
from gateway.keys import service as keys
from gateway.keys.model import ApiKey, KeyNotFound, KeyStatus
from gateway.quota import service as quota

ONE_SECOND = timedelta(seconds=1)


@get("/keys", access=Access.PERSON)
async def list_page(request: PageRequest) -> Response[str]:
    """List the keys of the account; revoked and expired ones stay listed."""
    rows = await _rows(parts_of(request), visitor_in(request).inside.person.account_id)
    working = [row for row in rows if row.status is KeyStatus.ACTIVE]
    ended = [row for row in rows if row.status is not KeyStatus.ACTIVE]
    return page(request, "keys/list.html", KeyList(working=working, ended=ended))


@get("/keys/new", access=Access.CONFIRMED)
async def new_page(request: PageRequest) -> Response[str]:
    """Ask what a new key may do."""
    return await _form(request, NewKeyForm())


@post("/keys/new", access=Access.CONFIRMED, back="/keys/new")
async def make_key(request: PageRequest) -> Response[str]:
    """Make a key and show it this once."""
    parts, visitor = parts_of(request), visitor_in(request)
    form = await read_form(request, NewKeyForm)
    account = await account_in(request)
    try:
        models = await models_offered(parts, account.currency)
        scopes = scopes_of(form, models, parts.door.clock.now())
        made = await make_key_of(parts, visitor.inside.person, scopes)
    except REFUSALS as error:
        return await _form(request, form, problem=problem_of(visitor, error), status=status_of(error))
    request_text = _first_request(parts, made.text, scopes.models or tuple(models))
    view = MadePage(text=made.text, name=scopes.name, snippets=request_text)
    return page(request, "keys/made.html", view, secret=True)


@get("/keys/{key_id:uuid}/rotate", access=Access.CONFIRMED)
async def rotate_page(request: PageRequest, key_id: FromPath[UUID]) -> Response[str]:
    """Ask how long the old key goes on working."""
    return await _key_page(request, "keys/rotate.html", key_id)


@post("/keys/{key_id:uuid}/rotate", access=Access.CONFIRMED, back="/keys")
async def rotate(request: PageRequest, key_id: FromPath[UUID]) -> Response[str]:
    """Make a key in place of another one and show it this once."""
    parts, visitor = parts_of(request), visitor_in(request)
    account_id = visitor.inside.person.account_id
    old = await _key(parts, account_id, key_id)
    form = await read_form(request, RotateForm)
    try:
        grace = grace_of(form)
        async with parts.db.acquire() as connection, connection.transaction():
            made = await keys.rotate_key(
                connection,
                parts.door.clock,
                parts.settings.base.peppers,
                key_id,
                account_id=account_id,
                grace=grace,
            )
            await trail.keep(
                connection,
                parts.door.clock,
                visitor.inside.person,
                "key:rotate",
                object_id=key_id,
                after={"replaced_by": made.key_id, "grace_s": grace // ONE_SECOND},
            )
    except REFUSALS as error:
        return await _key_page(
            request, "keys/rotate.html", key_id, problem=problem_of(visitor, error), status=status_of(error)
        )
    ends_at = parts.door.clock.now() + grace if grace else None
    account = await accounts.get(parts.db, account_id)
    models = old.scopes.models or tuple(await models_offered(parts, account.currency))
    view = MadePage(
        text=made.text,
        name=old.scopes.name,
        snippets=_first_request(parts, made.text, models),
        old=old,
        old_ends_at=ends_at,
    )
    return page(request, "keys/made.html", view, secret=True)


@get("/keys/{key_id:uuid}/revoke", access=Access.CONFIRMED)
async def revoke_page(request: PageRequest, key_id: FromPath[UUID]) -> Response[str]:
    """Say when the key was last used, and ask whether to stop it for good."""
    return await _key_page(request, "keys/revoke.html", key_id)


@post("/keys/{key_id:uuid}/revoke", access=Access.CONFIRMED, back="/keys")
async def revoke(request: PageRequest, key_id: FromPath[UUID]) -> Response[str]:
    """Stop a key for good."""
    parts, visitor = parts_of(request), visitor_in(request)
    person, clock = visitor.inside.person, parts.door.clock
    async with parts.db.acquire() as connection, connection.transaction():
        stopped = await keys.revoke_key(connection, clock, key_id, account_id=person.account_id)
        await trail.keep(
            connection, clock, person, "key:revoke", object_id=key_id, before={"name": stopped.scopes.name}
        )
    return redirect(request, "/keys", notice="key_revoked")


def _first_request(parts: Parts, text: str, models: tuple[str, ...]) -> list[Snippet]:
    return snippets(parts.settings.base.api_url, text, models[0])


async def _form(
    request: PageRequest, form: NewKeyForm, *, problem: Problem | None = None, status: int = 200
) -> Response[str]:
    parts = parts_of(request)
    account = await account_in(request)
    view = NewKeyPage(
        form=form,
        models=await models_offered(parts, account.currency),
        expiries=EXPIRIES,
        today=parts.door.clock.now().date().isoformat(),
        problem=problem,
    )
    return page(request, "keys/new.html", view, status=status)


async def _key_page(
    request: PageRequest, template: str, key_id: UUID, *, problem: Problem | None = None, status: int = 200
) -> Response[str]:
    rows = await _rows(parts_of(request), visitor_in(request).inside.person.account_id)
    row = next((row for row in rows if row.key.key_id == key_id), None)
    if row is None:
        raise KeyNotFound
    view = KeyPage(key_id=key_id, row=row, graces=GRACES, problem=problem)
    return page(request, template, view, status=status)


async def _key(parts: Parts, account_id: UUID, key_id: UUID) -> ApiKey:
    for key in await keys.list_keys(parts.db, account_id):
        if key.key_id == key_id:
            return key
    raise KeyNotFound


async def _rows(parts: Parts, account_id: UUID) -> list[KeyRow]:
    now = parts.door.clock.now()
    found = await keys.list_keys(parts.db, account_id)
    month = month_of(now)
    counted = await quota.counters(parts.db, account_id, [key.key_id for key in found], [month])
    return [
        KeyRow(
            key=key,
            status=key.status(now),
            used_tokens=counted.get((key.key_id, month), (0, 0))[0],
            replaced=key.replaced_by is not None,
            of_playground=is_playgrounds(key),
        )
        for key in found
    ]


ROUTES = [list_page, new_page, make_key, rotate_page, rotate, revoke_page, revoke]
