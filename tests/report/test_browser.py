"""The page in a real browser, at the width of a desktop and of a phone: nothing overflows, nothing complains."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace

import pytest

from amc_mobile.report.sweep_page import write_sweep_report
from amc_mobile.report.write import write_report
from amc_mobile.runs import RunFolder, write_json

from .fake_run import PHONE, comparison, network, write_run
from .fake_sweep import write_large_sweep

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--allow-file-access-from-files",
    "--enable-logging=stderr", "--virtual-time-budget=5000", "--hide-scrollbars",
]  # fmt: skip
# A frame has the width that a window of headless Chromium cannot have. Measured: the page's own overflow, and every
# element that stands out of the frame without a scrolling container around it.
MEASURE = """<body style="margin:0"><iframe src="{page}" width="{width}" height="2000" style="border:0"></iframe>
<pre id="found"></pre><script>
document.querySelector("iframe").onload = (event) => {{
  const view = event.target.contentDocument, root = view.documentElement, out = [];
  for (const element of view.body.querySelectorAll("*")) {{
    const box = element.getBoundingClientRect();
    const free = !element.closest(".table, pre, svg defs");
    if (free && box.right > root.clientWidth + 1) out.push(element.outerHTML.slice(0, 90));
  }}
  const heights = [...view.querySelectorAll("svg text")].map((text) => text.getBoundingClientRect().height);
  const figures = view.querySelectorAll("svg[role=img]").length, smallest = Math.min(...heights);
  document.getElementById("found").textContent = JSON.stringify(
    {{scroll: root.scrollWidth, client: root.clientWidth, out, figures, smallest}});
}};
</script></body>"""


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
    pytest.mark.parametrize("width", [1280, 375]),
]


@pytest.mark.parametrize("blocks", [3, 24])
def test_nothing_is_cut_off_and_nothing_complains(tmp_path, width, blocks):
    folder = write_run(RunFolder(tmp_path / "run"), network(blocks), episodes=40)
    folder.devices.mkdir()
    for device in (PHONE, replace(PHONE, name="192.168.100.200:55555", emulated=True)):
        found = comparison(18_000.0, 9_000.0, 8_900.0, device, network(blocks))
        write_json(folder.device_comparison(device.name), found)
    _check(write_report(folder), width, 7 + 2 * 3, tmp_path)


@pytest.mark.parametrize("agents", [("auto",), ("auto", "ddpg")])
def test_the_page_of_a_sweep(tmp_path, width, agents):
    _check(write_sweep_report(write_large_sweep(tmp_path / "sweep", agents=agents)), width, 2, tmp_path)


def _check(page, width, figures, tmp_path):
    """Opens the page in a frame of that width and looks for what stands out of it."""
    wrapper = tmp_path / "frame.html"
    wrapper.write_text(MEASURE.format(page=page.as_uri(), width=width), encoding="utf-8")
    command = [str(CHROMIUM), *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1400,2100"]
    done = subprocess.run(
        [*command, "--dump-dom", wrapper.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    found = json.loads(re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)[1].replace("&lt;", "<"))
    assert found["client"] == width
    assert found["scroll"] <= width
    assert found["out"] == []
    assert found["figures"] == figures
    assert found["smallest"] >= 8  # CSS pixels, of the line box
    assert "CONSOLE" not in done.stderr
