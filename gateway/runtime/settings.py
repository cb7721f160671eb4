"""Settings: one typed section a concern, read once from the environment, wrong ones named in one sentence.

Secrets and addresses have the names of the public contract. Every limit is a field of ``Limits`` and can be
set as ``NUSAGATE_`` and its name in capitals. Each variable can also be given as ``NAME_FILE``, the path of a
file that holds the value, which is how container platforms hand over secrets.
"""

import ipaddress
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias, TypeVar

import msgspec

from gateway.errors import ConfigurationError

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

LimitsKind = TypeVar("LimitsKind", bound=msgspec.Struct)

PREFIX = "NUSAGATE_"
PEPPER_LENGTH_MIN = 16
MILLISECONDS_PER_SECOND = 1_000


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """A bound on everything that could grow, in the unit that its name ends with."""

    max_body_bytes: int = 4 * 2**20
    max_header_bytes: int = 32 * 2**10
    max_json_depth: int = 64
    max_choices: int = 8
    body_timeout_s: int = 60
    max_answer_bytes: int = 64 * 2**20
    max_event_bytes: int = 2 * 2**20
    request_timeout_s: int = 600
    slow_client_timeout_s: int = 60
    drain_timeout_s: int = 30
    max_drains: int = 64
    max_drains_per_key: int = 4
    max_requests_in_flight: int = 12_000
    shutdown_timeout_s: int = 30
    database_pool_size: int = 8
    database_timeout_s: int = 5
    lock_timeout_s: int = 3
    redis_timeout_ms: int = 50
    batch_size: int = 256
    queue_size: int = 20_000
    key_cache_entries: int = 50_000
    key_cache_s: int = 30
    unknown_key_cache_s: int = 5
    stored_response_days: int = 30
    closed_intent_days: int = 35
    refusal_days: int = 400
    heartbeat_s: int = 5
    sweep_after_s: int = 20

    @property
    def redis_timeout_s(self) -> float:
        """How long one pipeline to Redis may take, in seconds."""
        return self.redis_timeout_ms / MILLISECONDS_PER_SECOND


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a process is told from outside."""

    database_url: str
    redis_url: str | None
    config_path: Path
    spool_dir: Path
    peppers: Mapping[int, bytes]
    public_url: str
    api_url: str
    trusted_proxies: tuple[Network, ...]
    json_logs: bool
    limits: Limits

    def __repr__(self) -> str:
        """Show no secret, even in a traceback."""
        return "Settings(…)"

    @property
    def pepper_version(self) -> int:
        """The newest pepper's version: new keys are stored under it."""
        return max(self.peppers)


def load_settings(environ: Mapping[str, str]) -> Settings:
    """Read and check all settings; ``ConfigurationError`` names the variable that is missing or wrong."""
    return Settings(
        database_url=read_database_url(environ),
        redis_url=read_redis_url(environ),
        config_path=Path(read_optional(environ, "NUSAGATE_CONFIG") or "nusagate.toml"),
        spool_dir=Path(read_optional(environ, "NUSAGATE_SPOOL_DIR") or "nusagate-spool"),
        peppers=parse_secrets("NUSAGATE_KEY_PEPPER", read_required(environ, "NUSAGATE_KEY_PEPPER")),
        public_url=read_url(environ, "NUSAGATE_PUBLIC_URL", "http://127.0.0.1:8081"),
        api_url=read_url(environ, "NUSAGATE_API_URL", "http://127.0.0.1:8080"),
        trusted_proxies=_networks(environ, "NUSAGATE_TRUSTED_PROXIES"),
        json_logs=read_optional(environ, "NUSAGATE_LOG_FORMAT") != "console",
        limits=load_limits(environ),
    )


def load_limits(environ: Mapping[str, str]) -> Limits:
    """Read the limits of the gateway and the processes beside it; see ``read_limits``."""
    return read_limits(environ, Limits)


def read_limits(environ: Mapping[str, str], kind: type[LimitsKind]) -> LimitsKind:
    """Read the limits that differ from their defaults; every one is a whole number of at least 1."""
    given: dict[str, int] = {}
    for field in msgspec.structs.fields(kind):
        name = PREFIX + field.name.upper()
        text = read_optional(environ, name)
        if text is not None:
            given[field.name] = _whole_number(name, text)
    return kind(**given)


def parse_secrets(name: str, text: str) -> dict[int, bytes]:
    """Read a versioned secret, ``v2:…,v1:…``, so that it can be rotated; a bare one is version 1."""
    if not text.startswith("v"):
        text = f"v1:{text}"
    secrets: dict[int, bytes] = {}
    for part in text.split(","):
        label, colon, secret = part.strip().partition(":")
        if not colon or not label[1:].isdigit() or not label.startswith("v"):
            raise ConfigurationError(f"{name} must look like v1:secret or v2:new,v1:old")
        if len(secret) < PEPPER_LENGTH_MIN:
            raise ConfigurationError(f"{name} version {label} is shorter than {PEPPER_LENGTH_MIN} characters")
        version = int(label[1:])
        if version in secrets:
            raise ConfigurationError(f"{name} has version {label} twice")
        secrets[version] = secret.encode()
    return secrets


def read_database_url(environ: Mapping[str, str]) -> str:
    """Read the address of Postgres; ``ConfigurationError`` if it is missing or is none."""
    url = read_required(environ, "NUSAGATE_DATABASE_URL")
    if not url.startswith(("postgres://", "postgresql://")):
        raise ConfigurationError("NUSAGATE_DATABASE_URL must start with postgresql://")
    return url


def read_redis_url(environ: Mapping[str, str]) -> str | None:
    """Read the address of Redis, which an installation need not have; ``ConfigurationError`` if it is none."""
    url = read_optional(environ, "NUSAGATE_REDIS_URL")
    if url is not None and not url.startswith(("redis://", "rediss://", "unix://")):
        raise ConfigurationError("NUSAGATE_REDIS_URL must start with redis://, rediss:// or unix://")
    return url


def read_url(environ: Mapping[str, str], name: str, default: str) -> str:
    """Read a web address without its last slash; ``ConfigurationError`` if it is none."""
    url = read_optional(environ, name) or default
    if not url.startswith(("http://", "https://")):
        raise ConfigurationError(f"{name} must start with http:// or https://")
    return url.rstrip("/")


def _networks(environ: Mapping[str, str], name: str) -> tuple[Network, ...]:
    try:
        return tuple(
            ipaddress.ip_network(part.strip())
            for part in (read_optional(environ, name) or "").split(",")
            if part.strip()
        )
    except ValueError as error:
        raise ConfigurationError(f"{name} must be a list of networks like 10.0.0.0/8: {error}") from error


def read_required(environ: Mapping[str, str], name: str) -> str:
    """Read a variable or the file that ``NAME_FILE`` names; ``ConfigurationError`` if there is neither."""
    value = read_optional(environ, name)
    if value is None:
        raise ConfigurationError(f"{name} is not set")
    return value


def read_optional(environ: Mapping[str, str], name: str) -> str | None:
    """Read a variable or the file that ``NAME_FILE`` names; ``None`` where it is missing or empty."""
    path = environ.get(f"{name}_FILE")
    if path and environ.get(name):
        raise ConfigurationError(f"{name} and {name}_FILE are both set; keep one")
    if path:
        try:
            return Path(path).read_text(encoding="utf-8").strip() or None
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"{name}_FILE cannot be read: {path}: {error}") from error
    return environ.get(name) or None


def _whole_number(name: str, text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise ConfigurationError(f"{name} must be a whole number of at least 1, not {text!r}")
    return int(text)
