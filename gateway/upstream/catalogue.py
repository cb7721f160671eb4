"""What the operator offers: the upstreams and models of ``nusagate.toml``, checked once at start.

Every mistake in the file stops the process with one sentence that names the file and the setting, because
a gateway that guesses what its operator meant sends prompts to the wrong place.
"""

import re
import tomllib
from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from gateway.errors import ConfigurationError, RequestError
from gateway.units import TOKENS_MAX

MODEL_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}")
"""What a model may be called: safe in a URL, a log line and a metric label."""

UPSTREAM_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""What an upstream may be called; the ledger and the metrics carry the name."""

SECRET = re.compile(r"[\x21-\x7e]{1,4096}")
"""What an upstream's key may consist of: one header value, so no spaces and no line ends."""

URL_TEXT = re.compile(r"[\x21-\x5b\x5d-\x7e]{1,2048}")
"""Printable ASCII without the backslash, which some URL parsers read as a slash."""

TIMEOUT_MAX_S = 86_400

TimeoutS = Annotated[float, Meta(gt=0, le=TIMEOUT_MAX_S)]
TokenLimit = Annotated[int, Meta(ge=1, le=TOKENS_MAX)]
ShortText = Annotated[str, Meta(min_length=1, max_length=256, pattern=r"^[\x21-\x7e]+$")]
UrlPath = Annotated[str, Meta(max_length=256, pattern=r"^/[A-Za-z0-9._~/-]*$")]


class ModelNotFound(RequestError):
    """The model does not exist, or this key may not use it."""

    code = "model_not_found"


class Dialect(StrEnum):
    """The wire format that an upstream speaks."""

    CHAT = "chat"
    RESPONSES = "responses"


class Upstream(msgspec.Struct, frozen=True, kw_only=True):
    """One server that runs models, as the operator described it; its key never shows in a ``repr``."""

    name: str
    base_url: str
    dialect: Dialect
    api_key: str | None
    connect_timeout_s: float
    first_byte_timeout_s: float
    idle_timeout_s: float
    continuous_usage: bool = False
    token_count_path: str | None = None

    def __repr__(self) -> str:
        return f"Upstream(name={self.name!r}, base_url={self.base_url!r}, dialect={self.dialect.value!r})"

    def __rich_repr__(self) -> Iterable[tuple[str, str]]:  # type: ignore[override]
        """Show the same three fields when Rich prints it, which would otherwise print the key too."""
        return (("name", self.name), ("base_url", self.base_url), ("dialect", self.dialect.value))


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """One model as clients see it, and the upstreams that serve it, best first."""

    id: str
    upstreams: tuple[Upstream, ...]
    upstream_model: str
    context_window: int
    max_output_tokens: int
    bytes_per_token_min: float
    prompt_overhead_tokens: int
    default_temperature: float = 0.7
    created: int = 0
    owned_by: str = "nusagate"


class Catalogue(msgspec.Struct, frozen=True):
    """All models that this installation offers, by their public id."""

    models: Mapping[str, Model]

    def get(self, model_id: str) -> Model:
        """Return the model; ``ModelNotFound`` if the operator does not offer it."""
        model = self.models.get(model_id)
        if model is None:
            raise ModelNotFound(param="model")
        return model


class _File(msgspec.Struct, forbid_unknown_fields=True):
    """The file at its top level."""

    upstreams: dict[str, dict[str, Any]]
    models: dict[str, dict[str, Any]]


class _UpstreamTable(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """One ``[upstreams.NAME]`` table as it is written."""

    base_url: str
    dialect: Dialect
    api_key_env: Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = None
    connect_timeout_s: TimeoutS = 5
    first_byte_timeout_s: TimeoutS = 60
    idle_timeout_s: TimeoutS = 60
    continuous_usage: bool = False
    token_count_path: UrlPath | None = None


class _ModelTable(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """One ``[models."NAME"]`` table as it is written."""

    upstreams: Annotated[list[str], Meta(min_length=1)]
    upstream_model: ShortText | None = None
    context_window: TokenLimit
    max_output_tokens: TokenLimit
    bytes_per_token_min: Annotated[float, Meta(ge=1, le=64)]
    prompt_overhead_tokens: Annotated[int, Meta(ge=0, le=TOKENS_MAX)]
    default_temperature: Annotated[float, Meta(ge=0, le=1)] = 0.7
    created: Annotated[int, Meta(ge=0)] = 0
    owned_by: ShortText = "nusagate"


_Table = TypeVar("_Table", bound=msgspec.Struct)


def load_catalogue(path: Path, environ: Mapping[str, str]) -> Catalogue:
    """Read the operator's file; ``ConfigurationError`` if it cannot be read or has a mistake."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path} is not UTF-8 text.") from error
    return parse_catalogue(text, environ, source=path.name)


def parse_catalogue(text: str, environ: Mapping[str, str], *, source: str) -> Catalogue:
    """Read the text of an operator's file; ``source`` is what errors call it.

    ``environ`` holds the secrets that ``api_key_env`` names, each as ``NAME`` or, in a file, as ``NAME_FILE``.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{source} is not valid TOML: {error}.") from error
    file = _convert(document, _File, where="", source=source)
    if not file.models:
        raise ConfigurationError(f"{source}: models is empty; at least one model is needed.")
    upstreams = {
        name: _upstream(name, table, environ, source=source) for name, table in file.upstreams.items()
    }
    models = {name: _model(name, table, upstreams, source=source) for name, table in file.models.items()}
    return Catalogue(MappingProxyType(models))


def _upstream(name: str, raw: dict[str, Any], environ: Mapping[str, str], *, source: str) -> Upstream:
    """Check one upstream's table and look up its secret."""
    where = f"upstreams.{_quoted(name)}"
    if not UPSTREAM_NAME.fullmatch(name):
        raise ConfigurationError(
            f"{source}: {where} is not a name for an upstream; use up to 64 letters, digits, '.', '_' and '-'."
        )
    table = _convert(raw, _UpstreamTable, where=where, source=source)
    fault = _url_fault(table.base_url)
    if fault is not None:
        raise ConfigurationError(f"{source}: {where}.base_url {fault}.")
    return Upstream(
        name=name,
        base_url=table.base_url.rstrip("/"),
        dialect=table.dialect,
        api_key=_secret(table.api_key_env, environ, where=f"{source}: {where}.api_key_env"),
        connect_timeout_s=float(table.connect_timeout_s),
        first_byte_timeout_s=float(table.first_byte_timeout_s),
        idle_timeout_s=float(table.idle_timeout_s),
        continuous_usage=table.continuous_usage,
        token_count_path=table.token_count_path,
    )


def _model(name: str, raw: dict[str, Any], upstreams: Mapping[str, Upstream], *, source: str) -> Model:
    """Check one model's table and join it to its upstreams."""
    where = f"models.{_quoted(name)}"
    if not MODEL_ID.fullmatch(name):
        raise ConfigurationError(
            f"{source}: {where} is not a name for a model; "
            "use up to 128 letters, digits, '.', '_', ':', '/' and '-', beginning with a letter or digit."
        )
    if "tokenizer" in raw:
        raise ConfigurationError(f"{source}: {where}.tokenizer is not supported yet; remove it.")
    table = _convert(raw, _ModelTable, where=where, source=source)
    if table.max_output_tokens > table.context_window:
        raise ConfigurationError(f"{source}: {where}.max_output_tokens is larger than its context_window.")
    return Model(
        id=name,
        upstreams=_chosen(table.upstreams, upstreams, where=f"{source}: {where}.upstreams"),
        upstream_model=table.upstream_model or name,
        context_window=table.context_window,
        max_output_tokens=table.max_output_tokens,
        bytes_per_token_min=float(table.bytes_per_token_min),
        prompt_overhead_tokens=table.prompt_overhead_tokens,
        default_temperature=float(table.default_temperature),
        created=table.created,
        owned_by=table.owned_by,
    )


def _chosen(names: list[str], upstreams: Mapping[str, Upstream], *, where: str) -> tuple[Upstream, ...]:
    """Look up the upstreams that a model names, keeping their order."""
    chosen: dict[str, Upstream] = {}
    for name in names:
        if name in chosen:
            raise ConfigurationError(f'{where} names "{name}" twice.')
        if name not in upstreams:
            raise ConfigurationError(f'{where} names "{name}", which is not in [upstreams].')
        chosen[name] = upstreams[name]
    return tuple(chosen.values())


def _secret(variable: str | None, environ: Mapping[str, str], *, where: str) -> str | None:
    """Read an upstream's key from the environment or the file that the environment names."""
    if variable is None:
        return None
    secret = environ.get(variable)
    file = environ.get(f"{variable}_FILE")
    if secret is None and file is not None:
        try:
            secret = Path(file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(
                f"{where} names {variable}; its {variable}_FILE cannot be read."
            ) from error
    if secret is None:
        raise ConfigurationError(f"{where} names {variable}, which is not in the environment.")
    if not SECRET.fullmatch(secret):
        raise ConfigurationError(f"{where} names {variable}, whose value is empty or no header value.")
    return secret


def _url_fault(url: str) -> str | None:
    """Say what is wrong with an upstream's address, or ``None``."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "is not a URL"
    checks = (
        (not URL_TEXT.fullmatch(url), "has characters that a URL cannot have"),
        (parts.scheme not in {"http", "https"}, "must begin with http:// or https://"),
        ("@" in parts.netloc, "must not hold credentials; use api_key_env"),
        ("?" in url or "#" in url, "must have neither a query nor a fragment"),
        (not parts.hostname or port == 0, "names no host"),
    )
    return next((fault for is_wrong, fault in checks if is_wrong), None)


def _convert(raw: object, table: type[_Table], *, where: str, source: str) -> _Table:
    """Turn a parsed table into its struct; ``ConfigurationError`` with the path of what does not fit."""
    try:
        return msgspec.convert(raw, table)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"{source}: {_explained(str(error), where)}.") from error


def _explained(fault: str, where: str) -> str:
    """Rewrite msgspec's message so that it names the setting as the operator wrote it."""
    what, _, inner = fault.partition(" - at `$")
    path = (where + inner.removesuffix("`")).removeprefix(".")
    prefix = f"{path}." if path else ""
    if unknown := re.fullmatch(r"Object contains unknown field `(.*)`", what):
        return f"{prefix}{_quoted(unknown[1])} is not a setting"
    if missing := re.fullmatch(r"Object missing required field `(.*)`", what):
        return f"{prefix}{missing[1]} is missing"
    return f"{path} is wrong: {what[0].lower()}{what[1:]}"


def _quoted(name: str) -> str:
    """Write a key as TOML would: bare where that is possible, in quotes otherwise."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else msgspec.json.encode(name).decode()
