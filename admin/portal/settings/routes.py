"""Settings: password, second factor, sessions, and leaving for good."""

from uuid import UUID

import segno
from litestar import Response, get, post
from litestar.params import FromPath

from admin.access import changing, entering, second_factor, sessions, trail
from admin.access import store as access_store
from admin.access.totp import enrolment_uri, secret_text
from admin.portal.amounts import FormRefused
from admin.portal.settings.views import (
    CloseForm,
    ClosePage,
    CodeForm,
    PasswordForm,
    RecoveryPage,
    SecondFactorPage,
    SettingsPage,
    SwitchOffForm,
    SwitchOffPage,
)
from admin.web.admission import Access
from admin.web.errors import status_of
from admin.web.forms import read_form
from admin.web.pages import REFUSALS, Problem, clear_cookie, page, problem_of, redirect
from admin.web.parts import PageRequest, parts_of, visitor_in
from admin.web.visitor import CookieName
from gateway.accounts import service as accounts
from gateway.plans import service as plans

QR_SCALE = 5


@get("/settings", access=Access.PERSON)
async def settings_page(request: PageRequest) -> Response[str]:
    """Show everything that a person can set."""
    return await _settings(request)


@post("/settings/password", access=Access.PERSON, back="/settings")
async def change_password(request: PageRequest) -> Response[str]:
    """Set a new password; the current one is asked for in the same form."""
    parts, visitor = parts_of(request), visitor_in(request)
    form = await read_form(request, PasswordForm)
    try:
        await entering.confirm(
            parts.door,
            parts.db,
            visitor.inside,
            password=form.current,
            caller=visitor.caller,
            param="current",
        )
        async with parts.db.acquire() as connection, connection.transaction():
            await changing.change_password(
                parts.door, connection, visitor.inside, new=form.password, language=visitor.language
            )
    except REFUSALS as error:
        return await _settings(request, problem=problem_of(visitor, error), status=status_of(error))
    return redirect(request, "/settings", notice="password_changed")


@get("/settings/second-factor", access=Access.CONFIRMED, back="/settings")
async def second_factor_page(request: PageRequest) -> Response[str]:
    """Show the secret for the app."""
    return await _second_factor(request)


@post("/settings/second-factor", access=Access.CONFIRMED, back="/settings/second-factor")
async def switch_on(request: PageRequest) -> Response[str]:
    """Ask for the second factor from now on, and show the recovery codes this once."""
    parts, visitor = parts_of(request), visitor_in(request)
    form = await read_form(request, CodeForm)
    try:
        await entering.count_code(parts.door, parts.db, visitor.inside.person)
        async with parts.db.acquire() as connection, connection.transaction():
            codes = await second_factor.switch_on(parts.door, connection, visitor.inside.person, form.code)
    except REFUSALS as error:
        return await _second_factor(request, problem=problem_of(visitor, error), status=status_of(error))
    await entering.forget_codes(parts.door, parts.db, visitor.inside.person)
    return page(request, "settings/recovery.html", RecoveryPage(codes=codes), secret=True)


@get("/settings/second-factor/off", access=Access.PERSON)
async def switch_off_page(request: PageRequest) -> Response[str]:
    """Ask for the password, which will open the account alone."""
    return page(request, "settings/second_factor_off.html", SwitchOffPage())


@post("/settings/second-factor/off", access=Access.PERSON, back="/settings/second-factor/off")
async def switch_off(request: PageRequest) -> Response[str]:
    """Ask for the second factor no more; the password is asked for in the same form."""
    parts, visitor = parts_of(request), visitor_in(request)
    form = await read_form(request, SwitchOffForm)
    try:
        await entering.confirm(
            parts.door, parts.db, visitor.inside, password=form.password, caller=visitor.caller
        )
        async with parts.db.acquire() as connection, connection.transaction():
            await changing.switch_second_factor_off(
                parts.door,
                connection,
                visitor.inside,
                password=form.password,
                language=visitor.language,
            )
    except REFUSALS as error:
        view = SwitchOffPage(problem=problem_of(visitor, error))
        return page(request, "settings/second_factor_off.html", view, status=status_of(error))
    return redirect(request, "/settings", notice="second_factor_off")


@post("/settings/recovery", access=Access.CONFIRMED, back="/settings")
async def renew_recovery_codes(request: PageRequest) -> Response[str]:
    """Make new recovery codes and show them this once."""
    parts = parts_of(request)
    async with parts.db.acquire() as connection, connection.transaction():
        codes = await second_factor.renew_recovery_codes(
            parts.door, connection, visitor_in(request).inside.person
        )
    return page(request, "settings/recovery.html", RecoveryPage(codes=codes), secret=True)


@post("/settings/sessions/{session_id:uuid}/end", access=Access.PERSON, back="/settings")
async def end_session(request: PageRequest, session_id: FromPath[UUID]) -> Response[str]:
    """Log another browser out."""
    parts, session = parts_of(request), visitor_in(request).inside
    async with parts.db.acquire() as connection, connection.transaction():
        if await sessions.end_session(parts.door, connection, session.person, session_id):
            await trail.keep(
                connection, parts.door.clock, session.person, "session:end", object_id=session_id
            )
    if session_id == session.session_id:
        clear_cookie(request, CookieName.SESSION)
        return redirect(request, "/login", notice="logged_out")
    return redirect(request, "/settings", notice="session_ended")


@post("/settings/sessions/end-others", access=Access.PERSON, back="/settings")
async def end_others(request: PageRequest) -> Response[str]:
    """Log every other browser out."""
    parts, session = parts_of(request), visitor_in(request).inside
    async with parts.db.acquire() as connection, connection.transaction():
        await sessions.end_others(parts.door, connection, session)
        await trail.keep(connection, parts.door.clock, session.person, "session:end_others")
    return redirect(request, "/settings", notice="sessions_ended")


@get("/settings/close", access=Access.CONFIRMED, back="/settings")
async def close_page(request: PageRequest) -> Response[str]:
    """Say what closing an account means."""
    view = ClosePage(email=visitor_in(request).inside.person.email)
    return page(request, "settings/close.html", view)


@post("/settings/close", access=Access.CONFIRMED, back="/settings/close")
async def close(request: PageRequest) -> Response[str]:
    """Close the account, once its address was typed."""
    parts, visitor = parts_of(request), visitor_in(request)
    person = visitor.inside.person
    form = await read_form(request, CloseForm)
    if form.email.strip().lower() != person.email:
        error = FormRefused("Type the address of the account to close it.", param="email")
        view = ClosePage(email=person.email, problem=problem_of(visitor, error))
        return page(request, "settings/close.html", view, status=status_of(error))
    try:
        async with parts.db.acquire() as connection, connection.transaction():
            await changing.close(parts.door, connection, person)
    except REFUSALS as refusal:
        view = ClosePage(email=person.email, problem=problem_of(visitor, refusal))
        return page(request, "settings/close.html", view, status=status_of(refusal))
    clear_cookie(request, CookieName.SESSION)
    return redirect(request, "/login", notice="account_closed")


async def _settings(
    request: PageRequest, *, problem: Problem | None = None, status: int = 200
) -> Response[str]:
    parts, session = parts_of(request), visitor_in(request).inside
    account = await accounts.get(parts.db, session.person.account_id)
    view = SettingsPage(
        person=session.person,
        account=account,
        plan_name=(await plans.get_plan(parts.db, account.plan_id)).name,
        sessions=await sessions.list_sessions(parts.door, parts.db, session.person),
        current=session.session_id,
        business_zone=parts.settings.time_zone.key,
        recovery_codes_left=await access_store.count_recovery_codes(parts.db, session.person.person_id),
        problem=problem,
    )
    return page(request, "settings/settings.html", view, status=status)


async def _second_factor(
    request: PageRequest, *, problem: Problem | None = None, status: int = 200
) -> Response[str]:
    parts, person = parts_of(request), visitor_in(request).inside.person
    async with parts.db.acquire() as connection, connection.transaction():
        secret = await second_factor.begin(parts.door, connection, person)
    picture = segno.make(enrolment_uri(secret, person.email), error="m").svg_data_uri(
        scale=QR_SCALE, border=3, light="white"
    )
    view = SecondFactorPage(picture=picture, secret=secret_text(secret), problem=problem)
    return page(request, "settings/second_factor.html", view, status=status, secret=True)


ROUTES = [
    settings_page,
    change_password,
    second_factor_page,
    switch_on,
    switch_off_page,
    switch_off,
    renew_recovery_codes,
    end_session,
    end_others,
    close_page,
    close,
]
