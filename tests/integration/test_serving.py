"""What a server's parent tells its workers, and what it leaves alone so that they load it with what they are given."""

import json
import subprocess
import sys

import pytest

from gateway.runtime.serve import SETTLE_MAX_S, SMALL_PAGES

WITHOUT_SERVING = """
import json, os, sys
import admin.cli
from gateway.runtime import serve

class Recorder:
    def __init__(self, *_args, workers_kill_timeout, **_kwargs):
        print(json.dumps({
            "client": "pyreqwest" in sys.modules,
            "pages": os.environ.get("MIMALLOC_ALLOW_THP"),
            "killed_after_s": workers_kill_timeout,
        }))

    def serve(self):
        pass

serve.DrainingServer = Recorder
serve.serve("nowhere:app", host="127.0.0.1", port=1, workers=1, shutdown_timeout_s=300)
"""


@pytest.fixture(scope="module")
def said():
    """What a server is told, and what its process has loaded by then."""
    run = subprocess.run(
        [sys.executable, "-c", WITHOUT_SERVING], capture_output=True, text=True, check=True, timeout=60
    )
    return json.loads(run.stdout)


def test_the_client_is_loaded_by_the_workers_alone_and_told_to_use_small_pages(said):
    assert (said["client"], said["pages"]) == (False, SMALL_PAGES[1])


def test_no_worker_is_killed_before_the_shutdown_limit_that_it_was_given(said):
    assert said["killed_after_s"] == 300 + SETTLE_MAX_S
