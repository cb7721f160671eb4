"""What a client is told of the database's trouble: that it may try again soon, and nothing of what happened."""

import json

import asyncpg
import pytest

from gateway.http.wire_errors import as_known, render_error


@pytest.mark.parametrize(
    "error",
    [asyncpg.DeadlockDetectedError("d"), asyncpg.SerializationError("s"), OSError("o"), TimeoutError()],
)
def test_the_databases_trouble_is_a_503_that_says_when_to_come_back(error):
    status, headers, body = render_error(as_known(error), "req_1", ())
    assert (status, json.loads(body)["error"]["code"]) == (503, "limits_unavailable")
    assert (b"retry-after", b"1") in headers


def test_what_is_a_fault_of_ours_is_called_that():
    status, _, body = render_error(as_known(asyncpg.UndefinedColumnError("secret")), "req_1", ())
    assert (status, json.loads(body)["error"]["code"]) == (500, "internal_error")
    assert b"secret" not in body
