"""How long a proof goes on, which run of luck it has, and where its figures go: by environment, for ``make crash``."""

import json
import os
from pathlib import Path

SEED = int(os.environ.get("NUSAGATE_PROOF_SEED", "1"))


def length(what: str, short: int) -> int:
    """Return how many of something: ``short`` in `make test`, more in the full form of `make crash`."""
    return int(os.environ.get(f"NUSAGATE_PROOF_{what.upper()}", str(short)))


def hand_in(**figures: int) -> None:
    """Write the figures of a proof that holds to where they are asked for."""
    path = os.environ.get("NUSAGATE_PROOF_REPORT")
    if path is not None:
        Path(path).write_text(json.dumps(figures))
