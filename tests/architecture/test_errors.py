"""Errors are classes with a stable code and a message, and every code has its row in the HTTP table."""

import importlib
import pkgutil
import re
from collections.abc import Iterator

import admin
import billing
import gateway
from gateway.errors import NusagateError
from gateway.http.error_table import ERRORS

# Only a command or a start meets these, never a request; the command line shows their message.
OPERATOR_CODES = frozenset(
    {
        "account_not_found",
        "configuration_error",
        "email_taken",
        "key_not_active",
        "key_not_found",
        "migration_error",
        "model_not_priced",
        "plan_not_found",
        "price_book_conflict",
        "price_book_not_found",
        "too_many_keys",
    }
)

CODE = re.compile(r"[a-z]+(_[a-z]+)*")


def import_everything() -> None:
    for room in (gateway, billing, admin):
        for module in pkgutil.walk_packages(room.__path__, f"{room.__name__}."):
            if not module.name.endswith(".__main__"):
                importlib.import_module(module.name)


def family(error: type[NusagateError]) -> Iterator[type[NusagateError]]:
    yield error
    for child in error.__subclasses__():
        yield from family(child)


def faults(error: type[NusagateError]) -> list[str]:
    found = []
    if not (error.__doc__ or "").strip():
        found.append(f"{error.__name__} has no docstring, which would be its message")
    if "code" not in vars(error):
        found.append(f"{error.__name__} has no code of its own")
    elif not CODE.fullmatch(error.code):
        found.append(f"{error.__name__} has the code {error.code!r}, which is not snake_case")
    return found


def product_errors() -> list[type[NusagateError]]:
    import_everything()
    return [
        error
        for error in family(NusagateError)
        if error.__module__.partition(".")[0] in {"gateway", "billing", "admin"}
    ]


def is_of_the_data_plane(error: type[NusagateError]) -> bool:
    return error.__module__.startswith("gateway.") and not error.__module__.startswith("gateway.cli.")


def test_every_error_has_a_code_and_a_message():
    assert [fault for error in product_errors() for fault in faults(error)] == []


def test_every_code_that_a_request_can_meet_has_its_row_in_the_http_table():
    data_plane = {error.code for error in product_errors() if is_of_the_data_plane(error)}
    assert sorted(data_plane - OPERATOR_CODES - set(ERRORS)) == []


def test_the_codes_that_no_request_meets_exist_and_have_no_row():
    codes = {error.code for error in product_errors()}
    assert codes >= OPERATOR_CODES
    assert OPERATOR_CODES.isdisjoint(ERRORS)


def test_an_error_without_code_or_message_is_found():
    class Nameless(NusagateError):
        pass

    class Shouting(NusagateError):
        """Something is loud."""

        code = "TOO-LOUD"

    assert faults(Nameless) == [
        "Nameless has no docstring, which would be its message",
        "Nameless has no code of its own",
    ]
    assert faults(Shouting) == ["Shouting has the code 'TOO-LOUD', which is not snake_case"]
