"""What a server's parent must leave alone, so that its workers load it with the settings that they are given."""

import json
import subprocess
import sys

from gateway.runtime.serve import SMALL_PAGES

WITHOUT_SERVING = """
import json, os, sys
import admin.cli
from gateway.runtime import serve

class Recorder:
    def __init__(self, *_args, **_kwargs):
        print(json.dumps({"client": "pyreqwest" in sys.modules, "pages": os.environ.get("MIMALLOC_ALLOW_THP")}))

    def serve(self):
        pass

serve.DrainingServer = Recorder
serve.serve("nowhere:app", host="127.0.0.1", port=1, workers=1)
"""


def test_the_client_is_loaded_by_the_workers_alone_and_told_to_use_small_pages():
    said = subprocess.run(
        [sys.executable, "-c", WITHOUT_SERVING], capture_output=True, text=True, check=True, timeout=60
    )
    assert json.loads(said.stdout) == {"client": False, "pages": SMALL_PAGES[1]}
