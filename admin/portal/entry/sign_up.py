"""Signing up, and following the link of the mail."""

from litestar import Response, get, post

from admin.access import entering, joining
from admin.access.model import LinkRefused, PasswordNeeded, SignUpsPaused
from admin.portal.entry.steps import INSIDE, keep_session, paused, refused_link
from admin.portal.entry.views import SentPage, SignUpForm, SignUpPage, TokenPage, VerifyForm
from admin.web.admission import Access
from admin.web.errors import status_of
from admin.web.forms import read_form
from admin.web.pace import evenly
from admin.web.pages import REFUSALS, Problem, page, problem_of, redirect
from admin.web.parts import PageRequest, parts_of, visitor_in
from gateway.plans import service as plans

ONBOARDING = "/start"


@get("/signup", access=Access.ANYBODY)
async def sign_up_page(request: PageRequest) -> Response[str]:
    """Ask for an address and a password."""
    parts = parts_of(request)
    if visitor_in(request).session is not None:
        return redirect(request, INSIDE)
    try:
        await joining.check_budget(parts.door, parts.db)
    except SignUpsPaused as error:
        return paused(request, error)
    return await _form(request)


@post("/signup", access=Access.ANYBODY, back="/signup")
async def sign_up(request: PageRequest) -> Response[str]:
    """Mail a link, and say the same for an address that is known."""
    parts, visitor = parts_of(request), visitor_in(request)
    form = await read_form(request, SignUpForm)
    try:
        async with evenly():
            application = await joining.prepare(
                parts.door,
                parts.db,
                email=form.email,
                password=form.password,
                language=visitor.language,
                caller=visitor.caller,
            )
            async with parts.db.acquire() as connection, connection.transaction():
                await joining.apply(parts.door, connection, application)
    except SignUpsPaused as error:
        return paused(request, error)
    except REFUSALS as error:
        return await _form(request, form.email, problem=problem_of(visitor, error), status=status_of(error))
    return redirect(request, "/signup/sent")


@get("/signup/sent", access=Access.ANYBODY)
async def sent_page(request: PageRequest) -> Response[str]:
    """Say where the mail went."""
    return await _sent(request)


@post("/signup/resend", access=Access.ANYBODY, back="/signup/sent")
async def resend(request: PageRequest) -> Response[str]:
    """Mail another link."""
    parts, visitor = parts_of(request), visitor_in(request)
    try:
        async with evenly(), parts.db.acquire() as connection, connection.transaction():
            await joining.resend(parts.door, connection, visitor.caller)
    except REFUSALS as error:
        return await _sent(request, problem=problem_of(visitor, error), status=status_of(error))
    return redirect(request, "/signup/sent", notice="mail_sent")


@get("/verify", access=Access.ANYBODY)
async def verify_page(request: PageRequest) -> Response[str]:
    """Let the browser in that signed up; ask another one for the password, which a mail scanner does not know."""
    return await _verify(request, request.query_params.get("token", ""), None)


@post("/verify", access=Access.ANYBODY, back="/login")
async def verify(request: PageRequest) -> Response[str]:
    """Let another browser in that knows the password."""
    form = await read_form(request, VerifyForm)
    return await _verify(request, form.token, form.password)


async def _verify(request: PageRequest, token: str, password: str | None) -> Response[str]:
    parts, visitor = parts_of(request), visitor_in(request)
    try:
        await joining.admit(parts.door, parts.db, visitor.caller, token, password)
        async with parts.db.acquire() as connection, connection.transaction():
            person = await joining.complete(parts.door, connection, token)
            session_token, _ = await entering.enter(
                parts.door, connection, person, visitor.caller, before=visitor.before
            )
    except LinkRefused as error:
        if visitor.session is not None:
            return redirect(request, INSIDE)
        return refused_link(request, error)
    except SignUpsPaused as error:
        return paused(request, error)
    except REFUSALS as error:
        asked_first = isinstance(error, PasswordNeeded) and password is None
        problem = None if asked_first else problem_of(visitor, error)
        view = TokenPage(token=token, problem=problem)
        status = 200 if asked_first else status_of(error)
        return page(request, "entry/verify.html", view, status=status, secret=True)
    keep_session(request, session_token)
    return redirect(request, ONBOARDING)


async def _form(
    request: PageRequest, email: str = "", *, problem: Problem | None = None, status: int = 200
) -> Response[str]:
    plan = await plans.get_plan(parts_of(request).db, joining.FREE_PLAN)
    view = SignUpPage(email=email, problem=problem, monthly_tokens=plan.limits.monthly_tokens)
    return page(request, "entry/sign_up.html", view, status=status)


async def _sent(request: PageRequest, *, problem: Problem | None = None, status: int = 200) -> Response[str]:
    parts = parts_of(request)
    waiting = await joining.waiting(parts.db, visitor_in(request).caller)
    if waiting is None:
        return redirect(request, "/signup")
    passed_s = int((parts.door.clock.now() - waiting.mailed_at).total_seconds())
    view = SentPage(
        email=waiting.email,
        wait_s=max(0, parts.settings.limits.resend_after_s - passed_s),
        problem=problem,
    )
    return page(request, "entry/sent.html", view, status=status)


ROUTES = [sign_up_page, sign_up, sent_page, resend, verify_page, verify]
