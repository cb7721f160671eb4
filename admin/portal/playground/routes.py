"""The playground's page, the relay of its requests, their code, and what each of them cost."""

from typing import Any
from uuid import UUID

import msgspec
from litestar import MediaType, Response, get, post
from litestar.params import FromPath
from litestar.response import Stream

from admin.access.model import AccessError
from admin.portal.offers import models_offered
from admin.portal.playground import store
from admin.portal.playground.code import code_of
from admin.portal.playground.key import playground_key
from admin.portal.playground.model import (
    MAX_OUTPUT_DEFAULT,
    Ask,
    PlaygroundForm,
    PromptRefused,
    Role,
    Turn,
    ask_of,
    turns_of,
)
from admin.portal.playground.views import CodePart, MonthLeft, PlaygroundPage, ReceiptView, Refusal
from admin.web.admission import Access
from admin.web.errors import status_of
from admin.web.forms import read_form
from admin.web.pages import NO_STORE, page, problem_of, render
from admin.web.parts import PageRequest, Parts, account_in, parts_of, visitor_in
from admin.web.relay import EVENTS, JSON, OK, error_body
from gateway.accounts.model import Account
from gateway.clock import month_of
from gateway.errors import NusagateError
from gateway.http.error_table import ERRORS
from gateway.keys import service as keys
from gateway.plans import service as plans
from gateway.plans.model import OnDisconnect
from gateway.quota import service as quota
from gateway.upstream.client import UpstreamAnswer

ACCEPTED = 202
UNAUTHORIZED = 401
REFUSED = 422
AWAY = 503


@get("/playground", access=Access.PERSON)
async def playground_page(request: PageRequest) -> Response[str]:
    """Show an empty conversation."""
    return await _page(request, PlaygroundForm(stream="on"), [])


@post("/playground", access=Access.PERSON, back="/playground")
async def playground_form(request: PageRequest) -> Response[str]:
    """Do what a browser without a script asks for: one more message, the code, or the answer as a page."""
    form = await read_form(request, PlaygroundForm)
    try:
        turns = turns_of(form)
        if form.action == "add":
            return await _page(request, form, [*turns, Turn(_next_role(turns), "")])
        ask = ask_of(form, await _models(request))
        if form.action == "code":
            return await _page(request, form, turns, ask=ask)
        answer, body = await _whole_answer(request, ask)
    except AccessError as error:
        problem = problem_of(visitor_in(request), error)
        return await _page(request, form, _readable(form), status=status_of(error), problem=problem)
    if answer.status != OK:
        refusal = _refusal(answer.status, body)
        return await _page(request, form, turns, ask=ask, refusal=refusal, status=REFUSED)
    response = msgspec.json.decode(body)
    said = Turn(Role.ASSISTANT, _text_of(response))
    receipt = await _receipt(request, _request_of(response["id"]))
    turns = [*ask.turns, said]
    return await _page(request, form, [*turns, Turn(_next_role(turns), "")], ask=ask, receipt=receipt)


@post("/playground/run", access=Access.PERSON, back="/playground", status_code=200)
async def run(request: PageRequest) -> Response[Any]:
    """Pass a request on and its answer back, as it comes; errors are in the shape of the API's."""
    parts = parts_of(request)
    try:
        ask = ask_of(await read_form(request, PlaygroundForm), await _models(request))
        answer = await _open(request, ask)
        if answer.content_type == EVENTS:
            stream = Stream(parts.relay.pieces(answer), media_type=EVENTS, status_code=answer.status)
            return _uncached(stream)
        body = await parts.relay.read(answer)
    except AccessError as error:
        status = REFUSED if isinstance(error, PromptRefused) else AWAY
        said = type(error)(problem_of(visitor_in(request), error).text, param=error.param)
        return _uncached(Response(error_body(said), status_code=status, media_type=MediaType.JSON))
    return _uncached(Response(body, status_code=answer.status, media_type=MediaType.JSON))


@post("/playground/code", access=Access.PERSON, back="/playground", status_code=200)
async def show_code(request: PageRequest) -> Response[str]:
    """Write the request as code, for the page that asks while somebody types."""
    try:
        ask = ask_of(await read_form(request, PlaygroundForm), await _models(request))
    except AccessError as error:
        problem = problem_of(visitor_in(request), error)
        # A form that is not complete yet is no fault of the page that asks while somebody types.
        return render(request, "playground/code.html", CodePart([], problem))
    code = code_of(parts_of(request).settings.base.api_url, ask.body)
    return render(request, "playground/code.html", CodePart(code))


@get("/playground/receipt/{request_id:uuid}", access=Access.PERSON, back="/playground")
async def show_receipt(request: PageRequest, request_id: FromPath[UUID]) -> Response[str]:
    """Say what a request cost; 202 while the ledger does not know it yet."""
    view = await _receipt(request, request_id)
    status = 200 if view and view.receipt.state != "open" else ACCEPTED
    return render(request, "playground/receipt.html", view, status=status)


async def _page(
    request: PageRequest,
    form: PlaygroundForm,
    turns: list[Turn],
    *,
    ask: Ask | None = None,
    status: int = OK,
    **result: Any,
) -> Response[str]:
    parts, account = parts_of(request), await account_in(request)
    models = await models_offered(parts, account.currency)
    shown = ask or Ask(
        model=form.model or models[0],
        turns=(Turn(Role.USER, "Apa kabar?"),),
        instructions="",
        temperature=None,
        max_output_tokens=MAX_OUTPUT_DEFAULT,
        stream=bool(form.stream),
    )
    plan = await plans.get_plan(parts.db, account.plan_id)
    view = PlaygroundPage(
        form=form,
        turns=turns or [Turn(Role.USER, "")],
        models=models,
        code=code_of(parts.settings.base.api_url, shown.body),
        drains=plan.on_disconnect is OnDisconnect.DRAIN,
        month=await _month(parts, account),
        **result,
    )
    return page(request, "playground/playground.html", view, status=status)


async def _open(request: PageRequest, ask: Ask) -> UpstreamAnswer:
    """Send a request with the account's key; where the gateway knows another text of it, once more with the next."""
    parts = parts_of(request)
    account_id = visitor_in(request).inside.person.account_id
    content = msgspec.json.encode(ask.body)
    label = request.scope["state"]["request_id"]
    accept = EVENTS if ask.stream else JSON
    key = await playground_key(parts, account_id, refused_before=False)
    answer = await parts.relay.open(key, content, accept=accept, request_id=label)
    if answer.status == UNAUTHORIZED:
        await parts.relay.close(answer)
        key = await playground_key(parts, account_id, refused_before=True)
        answer = await parts.relay.open(key, content, accept=accept, request_id=label)
    return answer


async def _whole_answer(request: PageRequest, ask: Ask) -> tuple[UpstreamAnswer, bytes]:
    answer = await _open(request, msgspec.structs.replace(ask, stream=False))
    return answer, await parts_of(request).relay.read(answer)


async def _receipt(request: PageRequest, request_id: UUID) -> ReceiptView | None:
    parts, account = parts_of(request), await account_in(request)
    found = await store.receipt(parts.db, account.account_id, request_id)
    return None if found is None else ReceiptView(receipt=found, month=await _month(parts, account))


async def _month(parts: Parts, account: Account) -> MonthLeft:
    now = await quota.now(parts.db)
    month = month_of(now)
    counted = await quota.counters(parts.db, account.account_id, [account.account_id], [month])
    limit = await keys.month_limit(parts.db, account.account_id, now)
    return MonthLeft(counted.get((account.account_id, month), (0, 0))[0], limit)


async def _models(request: PageRequest) -> list[str]:
    return await models_offered(parts_of(request), (await account_in(request)).currency)


def _uncached(response: Response[Any]) -> Response[Any]:
    response.headers["cache-control"] = NO_STORE
    # A proxy that collects an answer before it passes it on would make a stream of it no more.
    response.headers["x-accel-buffering"] = "no"
    return response


def _next_role(turns: list[Turn]) -> Role:
    return Role.ASSISTANT if turns and turns[-1].role is Role.USER else Role.USER


def _readable(form: PlaygroundForm) -> list[Turn]:
    """Return the messages of a form that may not be one, so that nothing is lost that was typed."""
    return [Turn(Role(role) if role in set(Role) else Role.USER, text) for role, text in zip(form.roles, form.texts, strict=False)]  # fmt: skip


def _text_of(response: dict[str, Any]) -> str:
    parts = (part for item in response["output"] for part in item.get("content", ()))
    return "".join(part.get("text", "") for part in parts)


def _request_of(response_id: str) -> UUID:
    """Return the request that a response belongs to: its id begins with that of the request."""
    return UUID(response_id.removeprefix("resp_")[:32])


def _refusal(status: int, body: bytes) -> Refusal:
    try:
        found = msgspec.json.decode(body)["error"]
        code, message = str(found["code"]), str(found["message"])
    except (msgspec.DecodeError, TypeError, KeyError):
        return Refusal(status, NusagateError.code, "", body.decode("utf-8", "replace")[:2000])
    text = msgspec.json.format(body, indent=2).decode()
    return Refusal(status, code if code in ERRORS else NusagateError.code, message, text)


ROUTES = [playground_page, playground_form, run, show_code, show_receipt]
