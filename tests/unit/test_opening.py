"""The portal is opened where somebody would see it, and nowhere else."""

import os
import subprocess
import sys

from admin.opening import has_screen, open_page

PORTAL = "http://127.0.0.1:8081"


def test_a_window_is_opened_only_where_it_would_be_seen():
    assert has_screen({"DISPLAY": ":0"}, "linux")
    assert has_screen({"WAYLAND_DISPLAY": "wayland-0"}, "linux")
    assert not has_screen({"DISPLAY": ""}, "linux")
    assert not has_screen({}, "linux")
    assert has_screen({}, "darwin")
    assert not has_screen({"SSH_CONNECTION": "192.0.2.1 5 192.0.2.2 22"}, "darwin")


def test_nothing_is_started_without_a_screen():
    assert open_page(PORTAL, {}) is False


def test_the_browser_of_the_person_gets_the_address(tmp_path):
    browser, opened = tmp_path / "browser", tmp_path / "opened"
    browser.write_text(f'#!/bin/sh\necho "$1" > {opened}\n')
    browser.chmod(0o755)
    code = f"import os; from admin.opening import open_page; print(open_page({PORTAL!r}, os.environ))"
    said = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "DISPLAY": ":0", "BROWSER": f"{browser} %s"},
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert (said.stdout, opened.read_text()) == ("True\n", f"{PORTAL}\n")
