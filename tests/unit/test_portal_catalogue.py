"""Every sentence of the portal is there in Indonesian, with the same values in it, and none is left over."""

import re
from io import BytesIO
from pathlib import Path

from babel.messages.extract import extract

import admin.portal.groups
from admin.access.model import AccessError
from admin.portal.docs.described import described
from admin.web.i18n import read_catalogue
from gateway.http.error_table import ERRORS

ADMIN = Path(admin.portal.groups.__file__).parents[1]
TEMPLATE = "jinja2.ext:babel_extract"
VALUE = re.compile(r"%\((\w+)\)s")


def family(error):
    yield error
    for child in error.__subclasses__():
        yield from family(child)


def sentences() -> set[str]:
    """What is said in templates, marked in code, given to an error, or is an error's own sentence."""
    errors = [error for error in family(AccessError) if error.__module__.startswith("admin.")]
    words = {"_": None, "gettext": None, "ngettext": (1, 2), "mark": None}
    calls = {error.__name__: None for error in errors}
    found = {error.__doc__.split("\n\n")[0] for error in errors}
    found |= said(TEMPLATE, "*.html", words) | said("python", "*.py", words)
    # The documentation says what the API's own tables say.
    found |= {text for row in ERRORS.values() for text in (row.cause, row.retry)}
    described("", lambda text: found.add(text) or text)
    # What is given to an error is its sentence, or only the name of a field.
    return found | {text for text in said("python", "*.py", calls) if text.endswith(".")}


def said(method: str, pattern: str, keywords) -> set[str]:
    found = set()
    for file in sorted(ADMIN.rglob(pattern)):
        for _, message, _, _ in extract(method, BytesIO(file.read_bytes()), keywords=keywords):
            found.add(message if isinstance(message, str) else message[0])
    return found


def test_every_sentence_is_translated_and_no_translation_is_left_over():
    known, needed = set(read_catalogue()), sentences()
    assert sorted(needed - known) == []
    assert sorted(known - needed) == []


def test_a_translation_has_the_values_of_its_sentence():
    different = {
        sentence: said
        for sentence, (said, *_) in read_catalogue().items()
        if sorted(VALUE.findall(sentence)) != sorted(VALUE.findall(said))
    }
    assert different == {}
