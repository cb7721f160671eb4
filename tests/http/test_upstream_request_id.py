"""What an upstream is told of a request's id: enough to find it again, in a form that every server takes."""

from uuid import UUID

from tests.http.asking import CHAT, ask
from tests.plugins.gateway import uuid_of


def test_an_upstream_is_sent_the_digits_of_the_id_which_are_a_uuid(http, sari, rude_upstream):
    answer = ask(http, sari, CHAT, "Halo", model="rude")
    (seen,) = rude_upstream.asked_by(answer.label)
    assert UUID(seen.headers["x-request-id"]) == uuid_of(answer.label)
