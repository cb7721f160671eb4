"""A request belongs to one month, whatever the clocks around it say."""

from tests.crash.months import cross_the_month


async def test_no_request_is_in_a_wrong_month_or_in_two_when_clocks_jump_at_the_boundary(seeded, sari):
    boundary = await cross_the_month(seeded, sari.account_id, sari.key_id, requests=1_000, seed=20_261_201)
    assert boundary.wrong == []
    assert boundary.requests == 1_000
