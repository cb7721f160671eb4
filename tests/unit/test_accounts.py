"""An account's address, and its limits: what was set for it put over its plan's."""

import pytest

from gateway.accounts.model import LimitName, effective_limits, normalise_email
from gateway.errors import InvalidValue
from gateway.plans.model import LIMIT_MAX, PER_MINUTE_MAX, AccountLimits

FREE = AccountLimits(monthly_tokens=10_000, requests_per_minute=20, concurrency=20)


def test_an_address_is_kept_trimmed_and_in_lower_case():
    assert normalise_email("  Sari.Dewi@Example.COM ") == "sari.dewi@example.com"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sari",
        "@example.com",
        "sari@",
        "a@b@c",
        "sa ri@example.com",
        "sari@exa\nmple.com",
        "a\x00@b",
        "sari@a..b",
    ],
)
def test_what_cannot_be_an_address_is_refused_by_name(text):
    with pytest.raises(InvalidValue, match="not an e-mail address") as refused:
        normalise_email(text)
    assert refused.value.param == "email"


@pytest.mark.parametrize(
    "text",
    [
        *("1,sari@example.com", "x<sari@example.com>", "(1)sari@example.com", "sari@example.com(1)"),
        *('"sari"@example.com', "x:sari@example.com", "sari@example.com.", "=?utf-8?q?sari?=@example.com"),
        *("sari@example\u3002com", "sari@exam\u00adple.com", "sari@[192.0.2.1]", "sa\\ri@example.com"),
    ],
)
def test_what_a_header_of_a_mail_would_take_for_another_address_is_none(text):
    with pytest.raises(InvalidValue, match="not an e-mail address"):
        normalise_email(text)


def test_wide_letters_do_not_make_another_address():
    assert normalise_email("\uff53\uff41ri@\uff45xample.com") == "sari@example.com"


def test_an_address_has_at_most_254_characters():
    assert len(normalise_email("a" * 242 + "@example.com")) == 254
    with pytest.raises(InvalidValue, match="at most 254"):
        normalise_email("a" * 243 + "@example.com")


def test_without_overrides_the_plan_holds():
    assert effective_limits(FREE, {}) == FREE


def test_a_number_overrides_null_lifts_and_absent_keeps():
    overrides = {LimitName.MONTHLY_TOKENS: None, LimitName.DAILY_TOKENS: 0, LimitName.CONCURRENCY: 1_500}
    assert effective_limits(FREE, overrides) == AccountLimits(
        monthly_tokens=None, daily_tokens=0, requests_per_minute=20, concurrency=1_500
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (LimitName.MONTHLY_TOKENS, LIMIT_MAX + 1),
        (LimitName.MONTHLY_TOKENS, -1),
        (LimitName.REQUESTS_PER_MINUTE, PER_MINUTE_MAX + 1),
        (LimitName.TOKENS_PER_MINUTE, PER_MINUTE_MAX + 1),
    ],
)
def test_a_limit_out_of_range_is_refused_by_name(name, value):
    with pytest.raises(InvalidValue, match=name):
        effective_limits(FREE, {name: value})


def test_every_limit_can_be_set_for_an_account():
    assert tuple(LimitName) == AccountLimits.__struct_fields__
