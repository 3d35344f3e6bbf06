"""Where Debian is found in apt's sources of every make, and what is said where it is not. Part of every run."""

from __future__ import annotations

import pytest

from tests.phone import packages
from tests.phone.packages import Suite, Unavailable, sources

ONE_LINE = """
# deb http://commented.example/debian bookworm main
deb [arch=amd64 signed-by=/k.gpg] http://a.example/debian bookworm main contrib
deb http://a.example/security bookworm-security main
deb http://other.example/apt cloud-bookworm main
"""
BLOCKS = """
Types: deb
URIs: http://b.example/debian
Suites: trixie trixie-updates
Components: main
Signed-By: /usr/share/keyrings/debian.gpg

Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: sid
Components: main
"""


@pytest.fixture
def apt(tmp_path, monkeypatch):
    """Writes apt's sources."""
    monkeypatch.setattr(packages, "_SOURCES", (tmp_path / "sources.list", tmp_path / "sources.list.d"))
    (tmp_path / "sources.list.d").mkdir()
    return tmp_path


def test_sources_of_both_forms(apt):
    (apt / "sources.list").write_text(ONE_LINE)
    (apt / "sources.list.d" / "debian.sources").write_text(BLOCKS)
    assert sources("trixie") == [
        "deb [arch=amd64 signed-by=/k.gpg] http://a.example/debian trixie main",
        "deb [signed-by=/usr/share/keyrings/debian.gpg] http://b.example/debian trixie main",
    ]


def test_another_system_says_so(apt, tmp_path):
    (apt / "sources.list").write_text("deb http://u.example/ubuntu noble main\n")
    with pytest.raises(Unavailable, match="no source of Debian"):
        Suite("trixie", tmp_path / "suite").require(["adb"])


def test_no_apt_at_all(apt, tmp_path, monkeypatch):
    (apt / "sources.list").write_text(ONE_LINE)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable, match="apt-get does not do it"):
        Suite("trixie", tmp_path / "suite").require(["adb"])


def test_a_source_that_is_not_there_is_said_without_its_address(apt, tmp_path):
    (apt / "sources.list").write_text("deb file:/no/such/mirror bookworm main\n")
    with pytest.raises(Unavailable) as refused:
        Suite("trixie", tmp_path / "suite").require(["adb"])
    assert "\n" not in str(refused.value)
