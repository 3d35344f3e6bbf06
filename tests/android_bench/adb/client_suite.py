"""What our ADB client must do with any daemon: the fake in every run; the real adbd, through adb's server too, in
tests/phone. A subclass gives the fixtures `adb` (an Adb) and `folder` (a folder on the phone that may be written).
"""

from __future__ import annotations

import os
import posixpath
import time

import pytest

from amc_mobile.errors import DeviceError
from android_bench.adb import Adb, Refused, quote
from android_bench.store import Store

HOSTILE_NAMES = (
    "plain.bin",
    "with space",
    "it's; touch injected",
    "$(touch injected)",
    "`touch injected`",
    '"; touch injected; "',
    "*",
    "-rf",
    "comma,0777",
    "naïve ☃",
    "\x1b[31mred\x07",
)


class ClientSuite:
    """Test methods; names say what the client can do."""

    # ------------------------------------------------------------------------------------------------ commands

    def test_exit_code_and_both_streams(self, adb: Adb):
        said = adb.shell("echo out; echo err >&2; exit 7", timeout_s=20)
        assert (said.code, said.stdout, said.stderr) == (7, b"out\n", b"err\n")

    def test_no_output_and_no_input(self, adb: Adb):
        said = adb.shell("cat", timeout_s=20)  # its stdin is empty
        assert (said.code, said.stdout, said.stderr) == (0, b"", b"")

    def test_every_byte_comes_through(self, adb: Adb, folder: str):
        data = bytes(range(256)) * 64
        adb.push(data, f"{folder}/bytes")
        assert adb.shell(f"cat {quote(folder + '/bytes')}", timeout_s=20).stdout == data

    def test_output_without_a_last_newline(self, adb: Adb):
        said = adb.shell("printf out; printf err >&2; exit 255", timeout_s=20)
        assert (said.code, said.stdout, said.stderr) == (255, b"out", b"err")

    def test_several_lines_and_comments(self, adb: Adb):
        assert adb.shell("a=1\necho $a # one\n# the end", timeout_s=20).stdout == b"1\n"

    def test_mistakes_in_a_command(self, adb: Adb):
        assert adb.shell("no-such-command-of-ours", timeout_s=20).code == 127
        assert adb.shell("if then", timeout_s=20).code != 0

    def test_stdout_is_handed_over_while_the_command_runs(self, adb: Adb):
        moments: list[tuple[float, bytes]] = []
        said = adb.shell(
            "echo first; sleep 1; echo second",
            timeout_s=20,
            on_stdout=lambda data: moments.append((time.monotonic(), data)),
        )
        assert said.stdout == b"" and b"".join(data for _, data in moments) == b"first\nsecond\n"
        assert moments[-1][0] - moments[0][0] > 0.5

    def test_much_output(self, adb: Adb):
        assert adb.shell("yes | head -c 3000000", timeout_s=60).stdout == b"y\n" * 1_500_000

    def test_a_silent_command_is_ended_in_time_and_the_next_one_runs(self, adb: Adb, folder: str):
        with pytest.raises(DeviceError, match="was not done after 1 s"):
            adb.shell(f"cd {quote(folder)}; sleep 4; touch survived", timeout_s=1)
        assert adb.shell("echo on", timeout_s=20).stdout == b"on\n"
        time.sleep(4)
        assert adb.shell(f"ls {quote(folder)}", timeout_s=20).stdout == b""  # it was killed, not forgotten

    def test_a_chatty_command_is_ended_in_time(self, adb: Adb):
        with pytest.raises(DeviceError, match="was not done after 1 s"):
            adb.shell("while true; do echo .; sleep 0.05; done", timeout_s=1)
        assert adb.shell("echo on", timeout_s=20).stdout == b"on\n"

    @pytest.mark.parametrize("stream", ["", " >&2"])
    def test_a_flood_is_cut_off(self, adb: Adb, stream: str):
        with pytest.raises(DeviceError, match="said more than 1000000 bytes"):
            adb.shell(f"yes{stream}", timeout_s=60, most_bytes=1_000_000)
        assert adb.shell("echo on", timeout_s=20).stdout == b"on\n"

    def test_what_the_listener_raises_ends_the_command(self, adb: Adb):
        def listen(data: bytes) -> None:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            adb.shell("yes", timeout_s=60, on_stdout=listen)
        assert adb.shell("echo on", timeout_s=20).stdout == b"on\n"

    @pytest.mark.parametrize("name", HOSTILE_NAMES)
    def test_words_are_words(self, adb: Adb, folder: str, name: str):
        said = adb.shell(f"cd {quote(folder)}; printf %s {quote(name)}; ls", timeout_s=20)
        assert said.stdout.decode() == name

    # ------------------------------------------------------------------------------------------------ files

    @pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, 3 * 2**20 + 5])
    def test_what_is_pushed_is_pulled(self, adb: Adb, folder: str, size: int):
        data, seen = os.urandom(size), []
        adb.push(data, f"{folder}/file", progress=lambda done, total: seen.append((done, total)))
        assert adb.pull(f"{folder}/file", most_bytes=size) == data
        assert not size or seen[-1] == (size, size)
        assert seen == sorted(seen)

    @pytest.mark.parametrize("name", HOSTILE_NAMES)
    def test_names_are_names(self, adb: Adb, folder: str, name: str):
        path = posixpath.join(folder, name)
        adb.push(name.encode(), path)
        assert adb.pull(path, most_bytes=1000) == name.encode()
        listed = adb.shell(f'cd {quote(folder)}; for f in *; do printf %s "$f"; done', timeout_s=20)
        assert listed.stdout.decode() == name

    def test_modes(self, adb: Adb, folder: str):
        adb.push(b"#!/bin/sh\necho ran\n", f"{folder}/run", mode=0o755)
        adb.push(b"#!/bin/sh\necho ran\n", f"{folder}/data", mode=0o644)
        assert adb.shell(f"cd {quote(folder)}; [ -x run ] && [ ! -x data ]", timeout_s=20).code == 0

    def test_folders_are_made_and_files_replaced(self, adb: Adb, folder: str):
        adb.push(b"longer than", f"{folder}/a/b/file")
        adb.push(b"new", f"{folder}/a/b/file")
        assert adb.pull(f"{folder}/a/b/file", most_bytes=100) == b"new"

    def test_files_without_a_size_are_read_to_their_end(self, adb: Adb):
        assert adb.pull("/proc/cpuinfo", most_bytes=1_000_000)

    def test_too_long_a_file_is_not_fetched(self, adb: Adb, folder: str):
        adb.push(bytes(1001), f"{folder}/file")
        with pytest.raises(DeviceError, match="longer than the 1000 bytes expected"):
            adb.pull(f"{folder}/file", most_bytes=1000)
        assert adb.shell("echo on", timeout_s=20).stdout == b"on\n"

    def test_refusals_say_what_and_where(self, adb: Adb, folder: str):
        with pytest.raises(Refused, match="there is no file"):
            adb.pull(f"{folder}/absent", most_bytes=10)
        adb.push(b"", f"{folder}/file")
        with pytest.raises(Refused, match=r"refuses .*file/below"):
            adb.push(b"x", f"{folder}/file/below")
        adb.push(b"x", f"{folder}/after")  # the connection is still of use

    # ------------------------------------------------------------------------------------------------ the store

    def test_the_store_sends_each_content_once(self, adb: Adb, folder: str):
        store = Store(adb, f"{folder}/it's ours")
        files = {"a.onnx": os.urandom(100_000), "b; rm": b"", "same.onnx": b"same", "twice.onnx": b"same"}
        sent: list[tuple[int, int]] = []
        places = store.ensure(files, lambda done, total: sent.append((done, total)))
        assert sent[-1] == (100_004, 100_004)
        assert {name: adb.pull(place, most_bytes=200_000) for name, place in places.items()} == files
        assert places["same.onnx"] == places["twice.onnx"] and places["a.onnx"].endswith(".onnx")
        sent.clear()
        assert store.ensure(files, lambda done, total: sent.append((done, total))) == places
        assert not sent

    def test_the_store_sends_again_what_was_cut_short(self, adb: Adb, folder: str):
        store = Store(adb, f"{folder}/store")
        place = store.ensure({"file": b"whole"})["file"]
        adb.push(b"cut", place)
        assert store.ensure({"file": b"whole"})["file"] == place
        assert adb.pull(place, most_bytes=10) == b"whole"

    def test_the_store_drops_what_was_used_longest_ago(self, adb: Adb, folder: str):
        store = Store(adb, f"{folder}/store")
        places = store.ensure({name: name.encode() * 1000 for name in "abc"})
        for age, name in ((3, "a"), (2, "b"), (1, "c")):
            adb.shell(f"touch -d 2020-01-0{4 - age}T00:00:00 {quote(places[name])}", timeout_s=20)
        store.ensure({"a": b"a" * 1000})  # used now
        assert store.trim(2000) == 1000
        assert adb.shell(f"ls {quote(store.folder)}", timeout_s=20).stdout.count(b"\n") == 2
        assert store.trim(2000) == 0
        assert adb.pull(places["a"], most_bytes=1000) and adb.pull(places["c"], most_bytes=1000)
        store.clean()
        assert adb.shell(f"[ -e {quote(store.folder)} ]", timeout_s=20).code == 1
