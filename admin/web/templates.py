"""The Jinja2 environments, one for each language: escaping always on, and a name that is missing is an error."""

import zoneinfo
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, PrefixLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from markupsafe import Markup

from admin.access.model import Language
from admin.web.assets import Assets
from admin.web.browsers import browser_name
from admin.web.formats import Formats, decimals_of, percent_of
from admin.web.i18n import translator_of
from admin.web.visitor import Visitor
from gateway.clock import Clock

WEB_TEMPLATES = Path(__file__).parent / "templates"


class Templates:
    """Renders templates by name, such as ``keys/list.html``: the page group, then its file."""

    def __init__(
        self, groups: Mapping[str, Path], *, assets: Assets, zone: zoneinfo.ZoneInfo, clock: Clock
    ) -> None:
        folders = {"web": WEB_TEMPLATES, **groups}
        loader = PrefixLoader({name: FileSystemLoader(folder) for name, folder in folders.items()})
        self._environments = {
            language: _environment(loader, language, Formats(language, zone), assets, clock)
            for language in Language
        }

    def render(self, language: Language, name: str, context: Mapping[str, object]) -> str:
        """Render a template."""
        return self._environments[language].get_template(name).render(context)


def _moment_of(formats: Formats) -> Callable[[Context, datetime], Markup]:
    """Return the filter that writes a moment in the zone that the visitor of a page chose."""

    @pass_context
    def moment(context: Context, value: datetime) -> Markup:
        visitor: Visitor = context["visitor"]
        return formats.moment(value, visitor.zone)

    return moment


def _environment(
    loader: PrefixLoader, language: Language, formats: Formats, assets: Assets, clock: Clock
) -> Environment:
    environment = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.i18n"],
    )
    translator = translator_of(language)
    environment.install_gettext_callables(  # type: ignore[attr-defined]
        translator.gettext, translator.ngettext, newstyle=True
    )
    environment.filters.update(
        number=formats.number,
        compact=formats.compact,
        money=formats.money,
        price=formats.price,
        minor=formats.minor,
        amount=formats.amount,
        month=formats.month,
        day=formats.day,
        short_day=formats.short_day,
        hour=formats.hour,
        here=formats.here,
        moment=_moment_of(formats),
        reset=formats.reset,
        ago=lambda moment: formats.ago(moment, clock.now()),
    )
    environment.globals.update(
        asset=assets.url,
        percent=formats.percent,
        percent_of=percent_of,
        decimals_of=decimals_of,
        share=formats.share,
        browser_name=browser_name,
    )
    return environment
