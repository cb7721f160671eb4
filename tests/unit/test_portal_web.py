"""What pages stand on: numbers and moments in words, cookies, languages, assets, redirects, settings."""

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

import admin.web.assets
from admin.access.model import Language
from admin.portal.dev.views import linked
from admin.portal.snippets import snippets
from admin.web.assets import Assets, read_manifest
from admin.web.browsers import browser_name
from admin.web.csp import SOURCES, policy
from admin.web.formats import Formats, percent_of
from admin.web.i18n import preferred, translator_of
from admin.web.pages import safe_path
from admin.web.visitor import CookieName, read_cookies, set_cookie
from gateway.errors import ConfigurationError
from tests.plugins.portal import portal_settings

JAKARTA = ZoneInfo("Asia/Jakarta")
ENGLISH = Formats(Language.ENGLISH, JAKARTA)
INDONESIAN = Formats(Language.INDONESIAN, JAKARTA)
NOW = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)
VENDOR = Path(admin.web.assets.__file__).parent / "static" / "vendor"


def test_numbers_are_grouped_as_the_reader_expects():
    assert (ENGLISH.number(1234567), INDONESIAN.number(1234567)) == ("1,234,567", "1.234.567")
    assert ENGLISH.number(None) == "-"


def test_money_keeps_every_digit():
    assert ENGLISH.money("0.0423", "idr") == "Rp 0.0423"
    assert INDONESIAN.money("9999.000000000001", "idr") == "Rp 9.999,000000000001"
    assert ENGLISH.price(9_999_000_000, "idr") == "Rp 9,999"
    assert ENGLISH.money("12.5", "usd") == "US$ 12.5"


def test_a_hundred_percent_is_said_only_when_it_is_reached():
    assert [percent_of(used, 10_000) for used in (0, 7_412, 9_999, 10_000, 10_001)] == [0, 74, 99, 100, 100]
    assert percent_of(0, 0) == 100
    assert ENGLISH.percent(7_412, 10_000) == "74%"


def test_a_reset_is_told_in_utc_and_in_the_zone_of_the_business():
    moment = datetime(2026, 12, 1, tzinfo=UTC)
    assert str(ENGLISH.reset(moment)) == (
        '<time datetime="2026-12-01T00:00:00Z">1 Dec 00:00 UTC (07:00 WIB)</time>'
    )
    elsewhere = Formats(Language.ENGLISH, ZoneInfo("America/New_York"))
    assert "1 Dec 00:00 UTC (30 Nov 19:00 EST)" in elsewhere.reset(moment)


def test_a_moment_is_in_utc_for_the_browser_to_write_in_the_readers_zone():
    written = str(ENGLISH.moment(NOW))
    assert 'datetime="2026-11-23T02:00:00Z" data-local title="23 Nov 2026, 02:00 UTC"' in written
    assert ">3 minutes ago<" in str(ENGLISH.ago(datetime(2026, 11, 23, 1, 57, tzinfo=UTC), NOW))
    assert ">3 menit yang lalu<" in str(INDONESIAN.ago(datetime(2026, 11, 23, 1, 57, tzinfo=UTC), NOW))


@pytest.mark.parametrize(
    ("header", "language"),
    [
        (None, "en"),
        ("", "en"),
        ("id", "id"),
        ("id-ID,id;q=0.9,en;q=0.8", "id"),
        ("en-GB,en;q=0.9,id;q=0.8", "en"),
        ("fr,id;q=0.5", "id"),
        ("in", "id"),
        ("en;q=0.1,id;q=0.2", "id"),
        ("id;q=x,en", "en"),
        ("*" * 5000, "en"),
    ],
)
def test_the_language_that_a_browser_likes_best_is_chosen(header, language):
    assert preferred(header) == language


def test_a_sentence_that_is_not_translated_is_said_in_english():
    translator = translator_of(Language.INDONESIAN)
    assert (translator.gettext("Log in"), translator.gettext("Never said")) == ("Masuk", "Never said")
    assert translator.ngettext("in %(num)s day", "in %(num)s days", 3) == "%(num)s hari lagi"
    assert (
        translator_of(Language.ENGLISH).ngettext("in %(num)s day", "in %(num)s days", 1) == "in %(num)s day"
    )


def test_cookies_that_are_not_ours_or_too_long_are_not_there():
    header = f"other=1; nusagate_theme=dark; nusagate_session={'a' * 65}; nusagate_language=id"
    assert read_cookies(header, secure=False) == {CookieName.THEME: "dark", CookieName.LANGUAGE: "id"}
    assert read_cookies(header, secure=True) == {}
    assert read_cookies("\x00=\x01; ;;", secure=False) == {}


@pytest.mark.parametrize(
    "other", ["{}", 'settings={"a b": [1, 2]}', 'open="x', "[x]=1", "caf\xe9", "=", "big=" + "a" * 9_000]
)
def test_what_others_keep_in_a_browser_hides_no_cookie_of_ours(other):
    for header in (f"{other}; nusagate_theme=dark", f"nusagate_theme=dark; {other}"):
        assert read_cookies(header, secure=False) == {CookieName.THEME: "dark"}, header


def test_over_https_a_cookie_is_bound_to_the_host():
    assert set_cookie(CookieName.THEME, "dark", secure=True, max_age_s=60) == (
        "__Host-nusagate_theme=dark; Path=/; HttpOnly; SameSite=Lax; Max-Age=60; Secure"
    )


@pytest.mark.parametrize("path", ["", None, "x", "//evil", "https://evil", "/\\evil", "/a\nb", "\\/evil"])
def test_only_paths_of_ours_are_gone_on_to(path):
    assert safe_path(path, "/usage") == "/usage"


def test_a_path_of_ours_keeps_its_query():
    assert safe_path("/usage?by=key", "/") == "/usage?by=key"


def test_the_policy_allows_nothing_that_is_not_explained():
    assert policy().startswith("default-src 'none'; ")
    assert all(source.reason for source in SOURCES)
    assert not {"'unsafe-inline'", "'unsafe-eval'", "*", "https:"} & set(policy().replace(";", "").split())


def test_every_vendored_file_is_the_one_that_its_manifest_names_with_its_licence():
    manifest = read_manifest()
    assert {entry.file for entry in manifest} == {
        file.name for file in VENDOR.iterdir() if file.is_file() and file.name != "manifest.json"
    }
    for entry in manifest:
        assert hashlib.sha256((VENDOR / entry.file).read_bytes()).hexdigest() == entry.sha256
        assert (VENDOR / entry.licence_file).read_text(encoding="utf-8")


def test_an_asset_has_its_digest_in_its_address():
    assets = Assets()
    asset = assets.get("css/tokens.css")
    assert asset is not None
    assert assets.url("css/tokens.css") == f"/static/css/tokens.css?v={asset.digest[:12]}"
    assert assets.get("../app.py") is None
    assert assets.get("vendor/manifest.json") is None


def test_a_font_is_asked_for_by_its_digest_so_that_it_is_fetched_once():
    assets = Assets()
    font, sheet = assets.get("vendor/inter-latin-wght-normal.woff2"), assets.get("css/tokens.css")
    assert font is not None
    assert sheet is not None
    assert (
        f'url("/static/vendor/inter-latin-wght-normal.woff2?v={font.digest[:12]}")' in sheet.content.decode()
    )
    assert b'url("..' not in sheet.content


def test_a_request_to_paste_has_the_real_address_and_key():
    texts = snippets("https://api.example.com", "nsk_live_x", "nusantara-base")
    assert [snippet.name for snippet in texts] == ["curl", "python", "javascript"]
    for snippet in texts:
        assert "https://api.example.com/v1" in snippet.text
        assert "nsk_live_x" in snippet.text
        assert "nusantara-base" in snippet.text


@pytest.mark.parametrize(
    ("agent", "name"),
    [
        (
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0 Safari/537.36",
            "Chrome, Linux",
        ),
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 20_0 like Mac OS X) Version/20.0 Safari/604.1",
            "Safari, iPhone",
        ),
        ("Mozilla/5.0 (Windows NT 10.0) Chrome/156.0 Safari/537.36 Edg/156.0", "Edge, Windows"),
        ("curl/9.0", "curl/9.0"),
        ("", ""),
    ],
)
def test_a_browser_has_a_name(agent, name):
    assert browser_name(agent) == name


def test_only_our_own_links_of_a_letter_are_links():
    letter = "Hello <b>\nhttp://127.0.0.1:8081/verify?token=x&y\nhttp://evil.example/"
    assert str(linked(letter, "http://127.0.0.1:8081")) == (
        'Hello &lt;b&gt;\n<a href="http://127.0.0.1:8081/verify?token=x&amp;y">'
        "http://127.0.0.1:8081/verify?token=x&amp;y</a>\nhttp://evil.example/"
    )


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"NUSAGATE_SMTP_URL": ""}, "NUSAGATE_SMTP_URL is not set"),
        ({"NUSAGATE_SMTP_URL": "http://mail"}, "must look like smtp://"),
        ({"NUSAGATE_SMTP_URL": "smtps://user:se/cret@mail.example.com"}, "must look like smtp://"),
        ({"NUSAGATE_SMTP_URL": "smtp://[mail"}, "must look like smtp://"),
        ({"NUSAGATE_PUBLIC_URL": "https://portal.example.com"}, "for one machine only"),
        ({"NUSAGATE_SESSION_SECRET": ""}, "NUSAGATE_SESSION_SECRET is not set"),
        ({"NUSAGATE_TIME_ZONE": "Mars/Base"}, "NUSAGATE_TIME_ZONE"),
        ({"NUSAGATE_FREE_BUDGET_TOKENS": "much"}, "NUSAGATE_FREE_BUDGET_TOKENS"),
        ({"NUSAGATE_LINK_HOURS": "0"}, "NUSAGATE_LINK_HOURS"),
    ],
)
def test_a_wrong_setting_is_named(environ, said):
    with pytest.raises(ConfigurationError, match=said):
        portal_settings(**environ)
