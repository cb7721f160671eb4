"""The documentation's pages, their Markdown, the OpenAPI document and ``llms.txt``; for everybody, without a login."""

import msgspec
from litestar import MediaType, Response, get
from litestar.handlers import HTTPRouteHandler

from admin.access.model import Language
from admin.portal.docs.described import described
from admin.portal.docs.facts import gather_facts
from admin.portal.docs.library import CHANGELOG, LIVE, WRITTEN, Entry, entry_of, write_markdown
from admin.portal.docs.markdown import read_markdown
from admin.portal.docs.reference import read_operations
from admin.portal.docs.views import ExplorerPage, Part, ReferencePage, Shelf, StatusPage, TextPage
from admin.web.admission import Access
from admin.web.assets import read_manifest
from admin.web.i18n import gettext_of, mark
from admin.web.pages import PRIVATE, page
from admin.web.parts import PageRequest, parts_of, visitor_in
from gateway.db.pool import pinger
from gateway.http.error_table import ERRORS
from gateway.http.openapi import openapi_document
from gateway.runtime.health import readiness

EXPLORER = "swagger-ui-dist"
MARKDOWN = "text/markdown"
SUMMARY = (
    "An OpenAI-compatible API that counts every token and stops exactly at your limit: "
    "Responses, Chat Completions and Embeddings, with streaming."
)
STATUS_FRESH_S = 5
OK = 200


@get([entry.path for entry in WRITTEN], access=Access.ANYBODY)
async def text_page(request: PageRequest) -> Response[str]:
    """Show a page that is Markdown, with the facts of this moment."""
    entry = _entry(request)
    text = await _markdown(request, entry)
    view = TextPage(_shelf(entry), read_markdown(text), in_english=entry.slug == CHANGELOG)
    return page(request, "docs/text.html", view)


@get([entry.markdown_path for entry in WRITTEN], access=Access.ANYBODY)
async def markdown_page(request: PageRequest) -> Response[str]:
    """Give a page as the Markdown that it is made from, for programs and models."""
    entry = _entry(request)
    response = Response(await _markdown(request, entry), media_type=MARKDOWN)
    response.headers["cache-control"] = PRIVATE
    response.headers["content-language"] = visitor_in(request).language.value
    return response


@get("/docs/reference", access=Access.ANYBODY)
async def reference_page(request: PageRequest) -> Response[str]:
    """Show every operation of the OpenAPI document."""
    api_url = parts_of(request).settings.base.api_url
    codes: dict[int, list[str]] = {}
    for code, row in ERRORS.items():
        codes.setdefault(row.status, []).append(code)
    operations = read_operations(openapi_document(api_url), codes)
    return page(
        request, "docs/reference.html", ReferencePage(_shelf(entry_of("reference")), operations, api_url)
    )


@get("/docs/explorer", access=Access.ANYBODY)
async def explorer_page(request: PageRequest) -> Response[str]:
    """Show the place where a script opens the OpenAPI document, and say what there is without one."""
    version = next(entry.version for entry in read_manifest() if entry.package == EXPLORER)
    return page(request, "docs/explorer.html", ExplorerPage(_shelf(entry_of("explorer")), version))


@get("/docs/status", access=Access.ANYBODY)
async def status_page(request: PageRequest) -> Response[str]:
    """Ask the gateway and the database whether they work, and say what they said."""
    parts = parts_of(request)
    gateway = await parts.relay.health(fresh_s=STATUS_FRESH_S)
    database = (await readiness(pinger(parts.db), draining=False)).checks["postgres"]
    found = [
        Part(
            mark("The API"),
            gateway.status == OK,
            mark("answers and takes requests") if gateway.status == OK else mark("takes no requests at the moment"),
        ),
        Part(
            mark("The gateway's database"),
            gateway.database == "ok",
            mark("answers, so limits are checked and tokens are counted")
            if gateway.database == "ok"
            else mark("does not answer; requests are refused with limits_unavailable, and nothing is charged"),
        ),
        Part(
            mark("The portal's database"),
            database == "ok",
            mark("answers") if database == "ok" else mark("does not answer; most pages cannot be shown"),
        ),
    ]  # fmt: skip
    view = StatusPage(_shelf(entry_of("status")), found, gateway.asked_at, STATUS_FRESH_S)
    return page(request, "docs/status.html", view)


@get("/docs/openapi.json", access=Access.ASSET)
async def openapi(request: PageRequest) -> Response[bytes]:
    """Give the OpenAPI document, the same as the gateway's own, or with its sentences in Indonesian."""
    api_url = parts_of(request).settings.base.api_url
    indonesian = request.query_params.get("language") == Language.INDONESIAN
    document = (
        described(api_url, gettext_of(Language.INDONESIAN)) if indonesian else openapi_document(api_url)
    )
    return Response(msgspec.json.encode(document), media_type=MediaType.JSON)


@get("/llms.txt", access=Access.ASSET, media_type=MARKDOWN)
async def llms(request: PageRequest) -> str:
    """Tell a language model what there is to read, in the form of llmstxt.org."""
    base = parts_of(request).settings.base
    say = gettext_of(Language.ENGLISH)
    pages = [
        f"- [{say(entry.title)}]({base.public_url}{entry.markdown_path}): {say(entry.about)}"
        for entry in WRITTEN
    ]
    return "\n".join(
        [
            "# Nusagate",
            "",
            f"> {SUMMARY}",
            "",
            f"The API is at {base.api_url}/v1; the official OpenAI clients work with that address and a key.",
            "",
            "## Documentation",
            "",
            *pages,
            f"- [OpenAPI document]({base.public_url}/docs/openapi.json): Every operation, field and error.",
            "",
        ]
    )


def _entry(request: PageRequest) -> Entry:
    path = request.scope["path"].rstrip("/")
    return next(entry for entry in WRITTEN if path in {entry.path, entry.markdown_path})


def _shelf(entry: Entry) -> Shelf:
    return Shelf((*WRITTEN, *LIVE), entry)


async def _markdown(request: PageRequest, entry: Entry) -> str:
    parts = parts_of(request)
    facts = await gather_facts(parts)
    return write_markdown(visitor_in(request).language, parts.settings.time_zone, entry.slug, facts)


ROUTES: list[HTTPRouteHandler] = [
    text_page,
    markdown_page,
    reference_page,
    explorer_page,
    status_page,
    openapi,
    llms,
]
