"""A fake's port is its own from the beginning to the end, and not a moment longer."""

from __future__ import annotations

import socket

import pytest

from tests.fakes.listening import Port


@pytest.fixture
def port():
    with Port(lambda connection: lambda: (connection.sendall(b"here"), connection.close())) as port:
        yield port


def said(port: Port) -> bytes:
    with socket.create_connection(("127.0.0.1", port.number), timeout=10) as connection:
        return connection.recv(16, socket.MSG_WAITALL)


def test_while_it_is_shut_it_refuses_and_nobody_else_gets_it(port):
    assert said(port) == b"here"
    port.shut()
    with pytest.raises(ConnectionRefusedError):
        said(port)
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", port.number))
    port.open()
    assert said(port) == b"here"


def test_once_closed_it_answers_nobody_and_the_port_is_free(port):
    port.close()
    port.open()  # too late: nothing happens
    with (
        socket.create_server(("127.0.0.1", port.number)) as after,
        socket.create_connection(after.getsockname()) as one,
    ):
        connection, _ = after.accept()
        connection.sendall(b"another's")
        connection.close()
        assert one.recv(16, socket.MSG_WAITALL) == b"another's"
