"""What an adb server may answer; the real one is asked in tests/phone. And what is seen when nothing is there."""

from __future__ import annotations

import socket
import subprocess
import sys
from contextlib import contextmanager, suppress
from functools import partial

import pytest

from amc_mobile.errors import DeviceError
from android_bench import discover, server
from android_bench.adb import Address, ConnectionLost, ProtocolError, Refused, connect
from tests.fakes.listening import Port

pytest.importorskip("adbutils")


@contextmanager
def serving(monkeypatch, answers: dict[str, bytes]):
    """A server that answers requests by their beginning, and keeps what it was asked."""
    asked: list[str] = []

    def serve(connection: socket.socket) -> None:
        with connection, suppress(OSError, ValueError):
            while length := connection.recv(4, socket.MSG_WAITALL):
                asked.append(connection.recv(int(length, 16), socket.MSG_WAITALL).decode())
                connection.sendall(next(answer for start, answer in answers.items() if asked[-1].startswith(start)))

    with Port(lambda connection: partial(serve, connection)) as port:
        monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(port.number))
        yield asked


def block(text: bytes) -> bytes:
    return b"%04x" % len(text) + text


FAILURES = {
    b"device unauthorized.\nThis adb server's $ADB_VENDOR_KEYS is not set": (Refused, "tap 'Allow'"),
    b"device offline": (ConnectionLost, "cannot reach ABC"),
    b"device 'ABC' not found": (ConnectionLost, "cannot reach ABC"),
    b"something \x1b[31mnew": (Refused, r"something \\x1b\[31mnew"),
}


@pytest.mark.parametrize("reason", FAILURES)
def test_what_the_server_refuses(monkeypatch, reason):
    kind, words = FAILURES[reason]
    with serving(monkeypatch, {"host": b"FAIL" + block(reason)}), pytest.raises(kind, match=words) as caught:
        connect(Address("server", "ABC"))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"FAILzzzz", b"OKAYzzzz", b"FAIL"])
def test_something_that_is_no_server(monkeypatch, answer):
    monkeypatch.setattr(server, "_ASK_S", 0.5)
    with serving(monkeypatch, {"host": answer}), pytest.raises((ProtocolError, ConnectionLost)) as caught:
        connect(Address("server", "ABC"))
    assert str(caught.value).isprintable()


def test_a_refused_service(monkeypatch):
    answers = {"host-serial:ABC:features": b"OKAY" + block(b"shell_v2,cmd"), "host:": b"OKAY", "shell": b"FAIL"}
    answers["shell"] += block(b"closed")
    with serving(monkeypatch, answers) as asked, pytest.raises(Refused, match="restart the phone"):
        connect(Address("server", "ABC")).shell("true", timeout_s=5)
    assert asked[0] == "host-serial:ABC:features" and asked[1] == "host:transport:ABC"


def test_what_is_found(monkeypatch):
    listing = (
        b"ABC device usb:1-2 product:panther model:Pixel_7 device:panther transport_id:1\n"
        b"DEF unauthorized usb:1-3 transport_id:2\n"
        b"192.168.0.7:5555 offline transport_id:3\n"
        b"GHI no permissions (missing udev rules?) usb:1-4 transport_id:4\n"
        b"J\x1b[2J recovery transport_id:5\n"
    )
    with serving(monkeypatch, {"host:devices-l": b"OKAY" + block(listing)}):
        phones, missing = discover.found()
    served = [(phone.address.serial, phone.state) for phone in phones if phone.address.transport == "server"]
    assert served == [
        ("ABC", "ready"),
        ("DEF", "unauthorised"),
        ("192.168.0.7:5555", "offline"),
        ("GHI", "no permission"),
        ("J\x1b[2J", "offline"),
    ]
    assert phones[0].model == "Pixel 7" and not phones[0].remedy
    assert all(phone.remedy.isprintable() and phone.remedy for phone in phones if phone.state != "ready")
    assert str(phones[4].address).isprintable()
    assert "adb server" not in missing


def test_no_server_is_started(monkeypatch, tmp_path):
    nobody = Port.unused()
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(nobody.number))
    ran: list[object] = []
    monkeypatch.setattr(subprocess, "run", lambda *words, **options: ran.append(words))
    with pytest.raises(ConnectionLost, match="type `adb start-server`"):
        connect(Address("server", "ABC"))
    phones, missing = discover.found()
    assert "no adb server answers" in missing["adb server"]
    assert not [phone for phone in phones if phone.address.transport == "server"]
    assert not ran


def test_what_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "adbutils", None)
    monkeypatch.setitem(sys.modules, "adb_shell.transport.usb_transport", None)
    phones, missing = discover.found()
    assert not phones
    assert "pip install 'amc-mobile[adbutils]'" in missing["adb server"]
    assert "pip install 'amc-mobile[usb]'" in missing["usb"]


@pytest.mark.parametrize(
    ("environment", "place"),
    [
        ({}, ("127.0.0.1", 5037)),
        ({"ANDROID_ADB_SERVER_PORT": "5038"}, ("127.0.0.1", 5038)),
        ({"ANDROID_ADB_SERVER_ADDRESS": "10.0.0.2"}, ("10.0.0.2", 5037)),
        ({"ADB_SERVER_SOCKET": "tcp:build.example:5039", "ANDROID_ADB_SERVER_PORT": "1"}, ("build.example", 5039)),
        ({"ADB_SERVER_SOCKET": "tcp:5040"}, ("127.0.0.1", 5040)),
        ({"ADB_SERVER_SOCKET": "tcp:[::1]:5041"}, ("::1", 5041)),
    ],
)
def test_where_the_server_is(environment, place):
    assert server.place(environment) == place


@pytest.mark.parametrize(
    "environment", [{"ANDROID_ADB_SERVER_PORT": "x"}, {"ADB_SERVER_SOCKET": "localfilesystem:/tmp/adb"}]
)
def test_places_that_are_none(environment):
    with pytest.raises(DeviceError, match="or unset it"):
        server.place(environment)
