"""Connections that bring no whole request are closed in time; none of them keeps others out."""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack

import pytest

from streamt1_plugins.evaluation.remote import connection, wire
from tests.evaluation.remote.serving import remote, request, serving

HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
HEAD = b"POST /score HTTP/1.1\r\nHost: localhost\r\n"


def client(port: int, sent: bytes = b"") -> socket.socket:
    made = socket.create_connection(("127.0.0.1", port), timeout=60)
    made.sendall(sent)
    return made


def answer(connected: socket.socket) -> bytes:
    """One answer with its JSON."""
    found = b""
    while not found.endswith(b"}"):
        found += connected.recv(10000)
    return found


def ended(connected: socket.socket) -> bool:
    """Whether the other side has closed the connection; waits for it."""
    try:
        while connected.recv(10000):
            pass
    except ConnectionError:
        pass
    return True


@pytest.mark.parametrize("sent", [b"", HEAD, HEAD[:5]])
def test_half_a_header_is_not_waited_for(sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEADER_SECONDS", 0.2)
    with serving() as server, client(server.port, sent) as slow:
        assert ended(slow)


def test_a_header_that_arrives_byte_by_byte_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEADER_SECONDS", 0.5)
    with serving() as server, client(server.port, HEAD) as slow:
        for _ in range(1000):
            try:
                slow.sendall(b"X")
            except ConnectionError:
                break
            time.sleep(0.02)
        else:
            pytest.fail("the connection is open after 20 s")


def test_a_body_after_a_refusal_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(wire.TOKEN, "sesame")
    with serving() as server, client(server.port, HEALTH) as slow:
        assert answer(slow).startswith(b"HTTP/1.1 401 ")
        monkeypatch.setattr(connection, "HEADER_SECONDS", 0.2)
        slow.sendall(HEAD + b"Content-Length: 1000\r\n\r\nhalf")
        assert answer(slow).startswith(b"HTTP/1.1 401 ")
        assert ended(slow)


def test_a_later_request_has_a_time_too(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as server, client(server.port, HEALTH) as slow:
        assert answer(slow).startswith(b"HTTP/1.1 200 ")
        for name in ("HEADER_SECONDS", "IDLE_SECONDS"):
            monkeypatch.setattr(connection, name, 0.2)
        slow.sendall(HEALTH)
        assert answer(slow).startswith(b"HTTP/1.1 200 ")
        slow.sendall(HEAD)
        assert ended(slow)


def test_the_longest_waiting_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "MOST", 20)
    with serving() as server, ExitStack() as stack:
        waiting = [stack.enter_context(client(server.port, HEAD)) for _ in range(60)]
        assert remote(server).name == "flicker"
        assert all(ended(each) for each in waiting[:30])


def test_two_hundred_and_thirty_half_requests_keep_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(wire.TOKEN, "sesame")
    with serving() as server, ExitStack() as stack:
        for number in range(230):
            stack.enter_context(client(server.port, (b"", HEAD, HEAD + b"Content-Length: 100\r\n\r\nhalf")[number % 3]))
        assert remote(server).name == "flicker"


def test_a_damaged_body_is_refused_once(caplog: pytest.LogCaptureFixture) -> None:
    damaged = HEAD.replace(b"score", b"reset") + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n"
    with serving() as server, client(server.port, damaged) as sender:
        assert sender.recv(1000).startswith(b"HTTP/1.1 400 ")
        assert request(server, "GET", "/health").status_code == 200
    assert [message for message in caplog.messages if "Refused bytes" in message] != []
    assert not any(record.exc_info for record in caplog.records)


def test_files_are_left_for_everything_else() -> None:
    assert 0 < connection.most_connections() <= connection.MOST
