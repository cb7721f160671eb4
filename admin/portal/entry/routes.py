"""Logging in and out, the second factor, new passwords, and confirming that it is still you."""

from litestar import Response, get, post

from admin.access import changing, entering, sessions
from admin.access.model import LinkRefused, Stage
from admin.portal.entry.sign_up import ROUTES as SIGN_UP_ROUTES
from admin.portal.entry.steps import INSIDE, keep_session, refused_link
from admin.portal.entry.views import (
    CodeForm,
    ConfirmForm,
    LoginForm,
    LoginPage,
    NextPage,
    ResetForm,
    ResetPage,
    TokenPage,
    VerifyForm,
)
from admin.web.admission import Access
from admin.web.errors import status_of
from admin.web.forms import read_form
from admin.web.pace import evenly
from admin.web.pages import (
    REFUSALS,
    clear_cookie,
    page,
    problem_of,
    redirect,
    safe_path,
    with_query,
)
from admin.web.parts import PageRequest, parts_of, visitor_in
from admin.web.visitor import CookieName


@get("/login", access=Access.ANYBODY)
async def login_page(request: PageRequest) -> Response[str]:
    """Ask for the address and the password."""
    following = safe_path(request.query_params.get("next"), INSIDE)
    if visitor_in(request).session is not None:
        return redirect(request, following)
    return page(request, "entry/login.html", LoginPage(next=following))


@post("/login", access=Access.ANYBODY, back="/login")
async def login(request: PageRequest) -> Response[str]:
    """Let somebody in whose password is right, or on to their second factor."""
    parts, visitor = parts_of(request), visitor_in(request)
    form = await read_form(request, LoginForm)
    following = safe_path(form.next, INSIDE)
    try:
        person = await entering.check_password(
            parts.door, parts.db, email=form.email, password=form.password, caller=visitor.caller
        )
        async with parts.db.acquire() as connection, connection.transaction():
            token, stage = await entering.enter(
                parts.door, connection, person, visitor.caller, before=visitor.before
            )
    except REFUSALS as error:
        view = LoginPage(email=form.email, next=following, problem=problem_of(visitor, error))
        return page(request, "entry/login.html", view, status=status_of(error))
    keep_session(request, token)
    if stage is Stage.SECOND_FACTOR:
        return redirect(request, with_query("/login/code", next=following))
    return redirect(request, following)


@get("/login/code", access=Access.ANYBODY)
async def code_page(request: PageRequest) -> Response[str]:
    """Ask for the second factor of somebody whose password was right."""
    following = safe_path(request.query_params.get("next"), INSIDE)
    if visitor_in(request).pending is None:
        return redirect(request, with_query("/login", next=following))
    return page(request, "entry/code.html", NextPage(next=following))


@post("/login/code", access=Access.ANYBODY, back="/login")
async def login_with_code(request: PageRequest) -> Response[str]:
    """Let somebody in whose second factor is right too."""
    parts, visitor = parts_of(request), visitor_in(request)
    form = await read_form(request, CodeForm)
    following = safe_path(form.next, INSIDE)
    if visitor.pending is None:
        return redirect(request, with_query("/login", next=following))
    try:
        await entering.count_code(parts.door, parts.db, visitor.pending.person)
        async with parts.db.acquire() as connection, connection.transaction():
            token = await entering.pass_second_factor(
                parts.door, connection, visitor.pending, form.code, visitor.caller
            )
    except REFUSALS as error:
        view = NextPage(next=following, problem=problem_of(visitor, error))
        return page(request, "entry/code.html", view, status=status_of(error))
    await entering.forget_codes(parts.door, parts.db, visitor.pending.person)
    keep_session(request, token)
    return redirect(request, following)


@post("/logout", access=Access.PERSON, back="/")
async def logout(request: PageRequest) -> Response[str]:
    """End this session."""
    parts, session = parts_of(request), visitor_in(request).inside
    await sessions.end_session(parts.door, parts.db, session.person, session.session_id)
    clear_cookie(request, CookieName.SESSION)
    return redirect(request, "/login", notice="logged_out")


@get("/confirm", access=Access.PERSON)
async def confirm_page(request: PageRequest) -> Response[str]:
    """Ask for the password again before something that matters."""
    following = safe_path(request.query_params.get("next"), INSIDE)
    return page(request, "entry/confirm.html", NextPage(next=following))


@post("/confirm", access=Access.PERSON, back="/confirm")
async def confirm(request: PageRequest) -> Response[str]:
    """Go on where somebody has proved again who they are."""
    parts, visitor = parts_of(request), visitor_in(request)
    form = await read_form(request, ConfirmForm)
    following = safe_path(form.next, INSIDE)
    try:
        await entering.confirm(
            parts.door, parts.db, visitor.inside, password=form.password, caller=visitor.caller
        )
    except REFUSALS as error:
        view = NextPage(next=following, problem=problem_of(visitor, error))
        return page(request, "entry/confirm.html", view, status=status_of(error))
    return redirect(request, following)


@get("/reset", access=Access.ANYBODY)
async def reset_page(request: PageRequest) -> Response[str]:
    """Ask for the address of somebody who does not remember a password."""
    return page(request, "entry/reset.html", ResetPage())


@post("/reset", access=Access.ANYBODY, back="/reset")
async def ask_reset(request: PageRequest) -> Response[str]:
    """Mail a link, and say the same for every address."""
    parts, visitor = parts_of(request), visitor_in(request)
    form = await read_form(request, ResetForm)
    try:
        async with evenly():
            await changing.count_reset(parts.door, parts.db, visitor.caller)
            async with parts.db.acquire() as connection, connection.transaction():
                await changing.ask_reset(parts.door, connection, form.email, visitor.language)
    except REFUSALS as error:
        view = ResetPage(email=form.email, problem=problem_of(visitor, error))
        return page(request, "entry/reset.html", view, status=status_of(error))
    return page(request, "entry/reset.html", ResetPage(email=form.email, sent=True))


@get("/reset/new", access=Access.ANYBODY)
async def new_password_page(request: PageRequest) -> Response[str]:
    """Ask for a new password."""
    parts, token = parts_of(request), request.query_params.get("token", "")
    try:
        await changing.check_reset(parts.door, parts.db, token)
    except LinkRefused as error:
        return refused_link(request, error)
    return page(request, "entry/new_password.html", TokenPage(token=token), secret=True)


@post("/reset/new", access=Access.ANYBODY, back="/reset")
async def set_new_password(request: PageRequest) -> Response[str]:
    """Set a new password by a link of a mail."""
    parts, visitor = parts_of(request), visitor_in(request)
    form = await read_form(request, VerifyForm)
    try:
        async with parts.db.acquire() as connection, connection.transaction():
            await changing.reset_password(parts.door, connection, form.token, form.password, visitor.language)
    except LinkRefused as error:
        return refused_link(request, error)
    except REFUSALS as error:
        view = TokenPage(token=form.token, problem=problem_of(visitor, error))
        return page(request, "entry/new_password.html", view, status=status_of(error), secret=True)
    clear_cookie(request, CookieName.SESSION)
    return redirect(request, "/login", notice="password_set")


ROUTES = [
    *SIGN_UP_ROUTES,
    login_page,
    login,
    code_page,
    login_with_code,
    logout,
    confirm_page,
    confirm,
    reset_page,
    ask_reset,
    new_password_page,
    set_new_password,
]
