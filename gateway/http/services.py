"""The parts that requests are served with, made once for each process and handed to every route."""

import msgspec

from gateway.clock import Clock
from gateway.db.pool import Pool
from gateway.keys.service import KeyService, LastUsed
from gateway.metering.bounds import InputBound
from gateway.metering.meter import Meter
from gateway.proxy.exchange import Transport
from gateway.proxy.exchanges import Exchanges
from gateway.refusals.service import Refusals
from gateway.runtime.settings import Settings
from gateway.upstream.catalogue import Catalogue


class Services(msgspec.Struct, frozen=True, kw_only=True):
    """Everything behind the routes; ``clock`` is the machine's, except in tests."""

    settings: Settings
    clock: Clock
    db: Pool
    catalogue: Catalogue
    bounds: dict[str, InputBound]
    keys: KeyService
    last_used: LastUsed
    refusals: Refusals
    meter: Meter
    transport: Transport
    exchanges: Exchanges


def input_bounds(catalogue: Catalogue) -> dict[str, InputBound]:
    """Make every model's input bound once."""
    return {
        model.id: InputBound.of(
            bytes_per_token_min=model.bytes_per_token_min, prompt_overhead_tokens=model.prompt_overhead_tokens
        )
        for model in catalogue.models.values()
    }
