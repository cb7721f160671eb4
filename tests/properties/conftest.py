"""How hard Hypothesis searches: ``full`` in `make test`, ``quick`` in `make check`. Neither judges by the clock."""

from hypothesis import settings

settings.register_profile("full", deadline=None, max_examples=300, print_blob=True)
settings.register_profile(
    "quick", settings.get_profile("full"), max_examples=30, derandomize=True, database=None
)

if settings.get_current_profile_name() == "default":
    settings.load_profile("full")
