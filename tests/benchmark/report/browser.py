"""A page as a browser has it, in a frame as wide as a telephone."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--virtual-time-budget=20000",
)  # fmt: skip

_LISTEN = "<script>window.failures = []; window.onerror = function (m) { failures.push(String(m)); };</script>"

_HARNESS = """<!DOCTYPE html><html><head><meta charset="utf-8"></head><body>
<iframe id="page" width="{width}" height="800" style="border: 0" srcdoc="{document}"></iframe>
<script>
var frame = document.getElementById("page");
frame.addEventListener("load", function () {{
  var found = {{}}, page = frame.contentDocument, view = frame.contentWindow;
  try {{ {script} }} catch (error) {{ found.error = String(error); }}
  found.failures = view.failures;
  document.body.textContent = "RESULT" + JSON.stringify(found) + "END";
}});
</script></body></html>"""


def look(document: str, script: str, width: int, folder: Path) -> Mapping[str, Any]:
    """Loads a page into a frame and returns what a script writes into ``found``, with the page's script errors.

    Args:
        document: The page.
        script: JavaScript that sees ``page`` (the document), ``view`` (its window) and ``found``.
        width: Of the frame, in CSS pixels.
        folder: A place for the browser's files.
    """
    listening = document.replace("<head>", f"<head>{_LISTEN}", 1)
    harness = folder / "harness.html"
    harness.write_text(_HARNESS.format(width=width, document=html.escape(listening), script=script))
    command = [str(CHROMIUM), *FLAGS, f"--user-data-dir={folder / 'profile'}", "--dump-dom", harness.as_uri()]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    result = re.search("RESULT(.*)END", html.unescape(done.stdout), flags=re.DOTALL)
    assert result is not None, done.stdout[:500]
    found: Mapping[str, Any] = json.loads(result[1])
    return found
