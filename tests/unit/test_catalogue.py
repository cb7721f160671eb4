"""The operator's file: what a good one becomes, and the sentence for every mistake in a bad one."""

import pytest
from rich.pretty import pretty_repr

from gateway.errors import ConfigurationError
from gateway.upstream.catalogue import Dialect, ModelNotFound, load_catalogue, parse_catalogue

GOOD = """
[upstreams.local]
base_url = "http://127.0.0.1:9100/v1/"
dialect = "chat"
api_key_env = "LOCAL_API_KEY"
connect_timeout_s = 5
first_byte_timeout_s = 60
idle_timeout_s = 60

[upstreams.spare]
base_url = "https://models.example/v1"
dialect = "responses"
connect_timeout_s = 2.5
first_byte_timeout_s = 30
idle_timeout_s = 30
continuous_usage = true
token_count_path = "/tokenize"

[models."nusantara-base"]
upstreams = ["local", "spare"]
upstream_model = "org/nusantara:8b"
context_window = 8192
max_output_tokens = 4096
bytes_per_token_min = 2.0
prompt_overhead_tokens = 64
"""
ENVIRON = {"LOCAL_API_KEY": "sk-local-secret"}


def parse(text, environ=ENVIRON):
    return parse_catalogue(text, environ, source="nusagate.toml")


def test_a_good_file_becomes_models_with_their_upstreams_in_order():
    model = parse(GOOD).get("nusantara-base")
    assert [upstream.name for upstream in model.upstreams] == ["local", "spare"]
    local, spare = model.upstreams
    assert (local.base_url, local.dialect, local.api_key) == (
        "http://127.0.0.1:9100/v1",
        Dialect.CHAT,
        "sk-local-secret",
    )
    assert (local.continuous_usage, local.token_count_path, local.idle_timeout_s) == (False, None, 60.0)
    assert (spare.api_key, spare.dialect, spare.connect_timeout_s) == (None, Dialect.RESPONSES, 2.5)
    assert (spare.continuous_usage, spare.token_count_path) == (True, "/tokenize")
    assert (model.upstream_model, model.context_window, model.max_output_tokens) == (
        "org/nusantara:8b",
        8192,
        4096,
    )
    assert (model.bytes_per_token_min, model.prompt_overhead_tokens) == (2.0, 64)
    assert (model.default_temperature, model.created, model.owned_by) == (0.7, 0, "nusagate")


def test_a_model_without_upstream_model_keeps_its_own_name():
    model = parse(GOOD.replace('upstream_model = "org/nusantara:8b"', "")).get("nusantara-base")
    assert model.upstream_model == "nusantara-base"


def test_a_model_that_is_not_offered_is_not_found():
    with pytest.raises(ModelNotFound) as caught:
        parse(GOOD).get("gpt-9")
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    assert "gpt-9" not in caught.value.message


def test_a_key_never_shows_when_an_upstream_is_printed():
    upstream = parse(GOOD).get("nusantara-base").upstreams[0]
    assert "secret" not in repr(upstream)
    assert "secret" not in str(upstream)
    assert "secret" not in pretty_repr(upstream)
    assert "secret" not in repr(parse(GOOD))


def test_a_key_may_come_from_a_file(tmp_path):
    (tmp_path / "key").write_text("sk-from-file\n")
    catalogue = parse(GOOD, {"LOCAL_API_KEY_FILE": str(tmp_path / "key")})
    assert catalogue.get("nusantara-base").upstreams[0].api_key == "sk-from-file"


def test_a_catalogue_cannot_be_changed():
    with pytest.raises(TypeError):
        parse(GOOD).models["x"] = None


LOCAL = "upstreams.local"
MODEL = "models.nusantara-base"


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        (
            '"http://127.0.0.1:9100/v1/"',
            '"ftp://x/v1"',
            f"{LOCAL}.base_url must begin with http:// or https://.",
        ),
        (
            '"http://127.0.0.1:9100/v1/"',
            '"127.0.0.1:9100"',
            f"{LOCAL}.base_url must begin with http:// or https://.",
        ),
        (
            '"http://127.0.0.1:9100/v1/"',
            '"http://u:p@x/v1"',
            f"{LOCAL}.base_url must not hold credentials; use api_key_env.",
        ),
        (
            '"http://127.0.0.1:9100/v1/"',
            '"http://@x/v1"',
            f"{LOCAL}.base_url must not hold credentials; use api_key_env.",
        ),
        (
            '"http://127.0.0.1:9100/v1/"',
            '"http://x/v1?key=1"',
            f"{LOCAL}.base_url must have neither a query nor a fragment.",
        ),
        (
            '"http://127.0.0.1:9100/v1/"',
            '"http://x/v1#"',
            f"{LOCAL}.base_url must have neither a query nor a fragment.",
        ),
        ('"http://127.0.0.1:9100/v1/"', '"http:///v1"', f"{LOCAL}.base_url names no host."),
        ('"http://127.0.0.1:9100/v1/"', '"http://x:99999/v1"', f"{LOCAL}.base_url is not a URL."),
        ('"http://127.0.0.1:9100/v1/"', '"http://[x/v1"', f"{LOCAL}.base_url is not a URL."),
        (
            '"http://127.0.0.1:9100/v1/"',
            '"http://x/v1\\r\\n"',
            f"{LOCAL}.base_url has characters that a URL cannot have.",
        ),
        ('"http://127.0.0.1:9100/v1/"', "7", f"{LOCAL}.base_url is wrong: expected `str`, got `int`."),
        (
            'base_url = "http://127.0.0.1:9100/v1/"',
            "",
            f"{LOCAL}.base_url is missing.",
        ),
        ('dialect = "chat"', 'dialect = "grpc"', f"{LOCAL}.dialect is wrong: invalid enum value 'grpc'."),
        ('dialect = "chat"', 'dialect = "chat"\nretries = 3', f"{LOCAL}.retries is not a setting."),
        (
            "connect_timeout_s = 5\n",
            "connect_timeout_s = 0\n",
            f"{LOCAL}.connect_timeout_s is wrong: expected `float` > 0.0.",
        ),
        (
            "idle_timeout_s = 60\n\n[upstreams.spare]",
            "idle_timeout_s = -1\n\n[upstreams.spare]",
            f"{LOCAL}.idle_timeout_s is wrong: expected `float` > 0.0.",
        ),
        (
            "connect_timeout_s = 5\n",
            "connect_timeout_s = inf\n",
            f"{LOCAL}.connect_timeout_s is wrong: expected `float` <= 86400.0.",
        ),
        (
            "connect_timeout_s = 5\n",
            'connect_timeout_s = "5"\n',
            f"{LOCAL}.connect_timeout_s is wrong: expected `float`, got `str`.",
        ),
        (
            'token_count_path = "/tokenize"',
            'token_count_path = "tokenize"',
            "upstreams.spare.token_count_path is wrong: expected `str` matching regex '^/[A-Za-z0-9._~/-]*$'.",
        ),
        (
            "[upstreams.local]",
            '[upstreams."lo cal"]',
            "upstreams.\"lo cal\" is not a name for an upstream; use up to 64 letters, digits, '.', '_' and '-'.",
        ),
        (
            '["local", "spare"]',
            '["local", "y"]',
            f'{MODEL}.upstreams names "y", which is not in [upstreams].',
        ),
        ('["local", "spare"]', '["spare", "spare"]', f'{MODEL}.upstreams names "spare" twice.'),
        ('["local", "spare"]', "[]", f"{MODEL}.upstreams is wrong: expected `array` of length >= 1."),
        ('["local", "spare"]', '"local"', f"{MODEL}.upstreams is wrong: expected `array`, got `str`."),
        (
            "max_output_tokens = 4096",
            "max_output_tokens = 8193",
            f"{MODEL}.max_output_tokens is larger than its context_window.",
        ),
        (
            "bytes_per_token_min = 2.0",
            "bytes_per_token_min = 0.5",
            f"{MODEL}.bytes_per_token_min is wrong: expected `float` >= 1.0.",
        ),
        (
            "bytes_per_token_min = 2.0",
            "bytes_per_token_min = nan",
            f"{MODEL}.bytes_per_token_min is wrong: expected `float` >= 1.0.",
        ),
        (
            "prompt_overhead_tokens = 64",
            'prompt_overhead_tokens = 64\ntokenizer = "tokenizer.json"',
            f"{MODEL}.tokenizer is not supported yet; remove it.",
        ),
        ("prompt_overhead_tokens = 64", "", f"{MODEL}.prompt_overhead_tokens is missing."),
        (
            '[models."nusantara-base"]',
            '[models."a b"]',
            "models.\"a b\" is not a name for a model; use up to 128 letters, digits, '.', '_', ':', '/' and '-', beginning with a letter or digit.",
        ),
        ("[upstreams.local]", "colour = 1\n[upstreams.local]", "colour is not a setting."),
    ],
)
def test_a_mistake_is_named_by_its_path(old, new, sentence):
    assert old in GOOD
    with pytest.raises(ConfigurationError) as caught:
        parse(GOOD.replace(old, new, 1))
    assert caught.value.message == f"nusagate.toml: {sentence}"


@pytest.mark.parametrize(
    ("environ", "sentence"),
    [
        ({}, "names LOCAL_API_KEY, which is not in the environment."),
        ({"LOCAL_API_KEY": ""}, "names LOCAL_API_KEY, whose value is empty or no header value."),
        ({"LOCAL_API_KEY": "a\r\nb: c"}, "names LOCAL_API_KEY, whose value is empty or no header value."),
        (
            {"LOCAL_API_KEY_FILE": "/nowhere/key"},
            "names LOCAL_API_KEY; its LOCAL_API_KEY_FILE cannot be read.",
        ),
    ],
)
def test_a_key_that_is_not_there_is_named_but_never_shown(environ, sentence):
    with pytest.raises(ConfigurationError) as caught:
        parse(GOOD, environ)
    assert caught.value.message == f"nusagate.toml: upstreams.local.api_key_env {sentence}"


def test_a_file_without_models_is_refused():
    with pytest.raises(ConfigurationError, match=r"^nusagate\.toml: models is missing\.$"):
        parse("[upstreams]\n")
    with pytest.raises(
        ConfigurationError, match=r"^nusagate\.toml: models is empty; at least one model is needed\.$"
    ):
        parse("[upstreams]\n[models]\n")


def test_a_file_that_is_not_toml_is_refused_with_its_line():
    with pytest.raises(ConfigurationError, match=r"^nusagate\.toml is not valid TOML: .*line 2"):
        parse("[upstreams]\nlocal = \nspare = 1")


def test_a_file_is_loaded_from_disk(tmp_path):
    (tmp_path / "nusagate.toml").write_text(GOOD)
    assert "nusantara-base" in load_catalogue(tmp_path / "nusagate.toml", ENVIRON).models


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(
        ConfigurationError, match=r"missing\.toml cannot be read: No such file or directory\.$"
    ):
        load_catalogue(tmp_path / "missing.toml", ENVIRON)
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match=r"binary\.toml is not UTF-8 text\.$"):
        load_catalogue(tmp_path / "binary.toml", ENVIRON)
