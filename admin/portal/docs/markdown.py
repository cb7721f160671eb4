"""Markdown as the pages show it: tables that scroll and align without inline styles, headings that can be linked to.

What is written between fences becomes a block of its own, so that the page shows it with the component for code;
fences that follow each other directly are the same thing in several languages, and share one block with tabs.
"""

import re
from collections.abc import Sequence

import msgspec
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict
from markupsafe import Markup, escape

from admin.portal.snippets import Snippet

LABELS = {"sh": "curl", "python": "Python", "javascript": "JavaScript", "json": "JSON", "text": "Text"}
SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#+!|~&])")
NOT_IN_A_SLUG = re.compile(r"[^\w]+")
SECTION = "h2"


class Heading(msgspec.Struct, frozen=True):
    """A section of a page."""

    slug: str
    text: str


class Block(msgspec.Struct, frozen=True):
    """A part of a page: text, or code in one language or several."""

    html: Markup
    snippets: list[Snippet]


class Document(msgspec.Struct, frozen=True):
    """A page of Markdown, taken apart."""

    blocks: list[Block]
    headings: list[Heading]


class _Renderer(RendererHTML):
    """What differs from plain HTML."""

    def table_open(self, tokens: Sequence[Token], index: int, options: OptionsDict, env: EnvType) -> str:
        """Let a table scroll inside its card, also with the keyboard."""
        del tokens, index, options
        name = escape(env.get("section", ""))
        return (
            '<div class="card card-flush"><div class="table-scroll" role="region" tabindex="0" '
            f'aria-label="{name}"><table class="table">'
        )

    def table_close(self, tokens: Sequence[Token], index: int, options: OptionsDict, env: EnvType) -> str:
        """Close what ``table_open`` opened."""
        del tokens, index, options, env
        return "</table></div></div>"

    def th_open(self, tokens: Sequence[Token], index: int, options: OptionsDict, env: EnvType) -> str:
        """Align without a style, which the policy of the pages forbids."""
        del options, env
        return f'<th scope="col"{_alignment(tokens[index])}>'

    def td_open(self, tokens: Sequence[Token], index: int, options: OptionsDict, env: EnvType) -> str:
        """Align without a style."""
        del options, env
        return f"<td{_alignment(tokens[index])}>"


_PARSER = MarkdownIt("commonmark", {"html": False}, renderer_cls=_Renderer).enable("table")


def read_markdown(text: str) -> Document:
    """Take a page apart; HTML in it is shown as text."""
    tokens = _PARSER.parse(text)
    headings = _number_headings(tokens)
    blocks: list[Block] = []
    prose: list[Token] = []
    snippets: list[Snippet] = []
    env: dict[str, str] = {}
    for token in tokens:
        if token.type == "fence":
            _flush(prose, blocks, env)
            snippets.append(_snippet(token))
            continue
        if snippets:
            blocks.append(Block(Markup(), snippets))
            snippets = []
        if token.type == "heading_open":
            # A table is named after the section that it stands in, so the text before it is rendered on its own.
            _flush(prose, blocks, env)
            env["section"] = str(token.meta.get("text", ""))
        prose.append(token)
    _flush(prose, blocks, env)
    if snippets:
        blocks.append(Block(Markup(), snippets))
    return Document(blocks, headings)


def escape_markdown(value: object) -> str:
    """Write a value that is no Markdown, such as a plan's name, into a page of Markdown."""
    return SPECIAL.sub(r"\\\1", " ".join(str(value).split()))


def slug_of(text: str) -> str:
    """Return the name that a heading can be linked to by."""
    return NOT_IN_A_SLUG.sub("-", text.lower()).strip("-")


def _number_headings(tokens: Sequence[Token]) -> list[Heading]:
    headings, taken = [], set()
    for place, token in enumerate(tokens):
        if token.type != "heading_open":
            continue
        text = _plain(tokens[place + 1])
        slug = slug_of(text)
        while slug in taken:
            slug += "-more"
        taken.add(slug)
        token.attrSet("id", slug)
        token.meta["text"] = text
        if token.tag == SECTION:
            headings.append(Heading(slug, text))
    return headings


def _plain(inline: Token) -> str:
    return "".join(child.content for child in inline.children or ())


def _flush(prose: list[Token], blocks: list[Block], env: dict[str, str]) -> None:
    if prose:
        html = _PARSER.renderer.render(prose, _PARSER.options, env)
        # Our own renderer wrote it from text in which HTML is escaped.
        blocks.append(Block(Markup(html), []))  # noqa: S704
        prose.clear()


def _snippet(token: Token) -> Snippet:
    name = token.info.partition(" ")[0] or "text"
    return Snippet(name, LABELS.get(name, name), token.content.rstrip("\n"))


def _alignment(token: Token) -> str:
    return ' class="num"' if "right" in str(token.attrGet("style") or "") else ""
