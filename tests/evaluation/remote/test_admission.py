"""Whom a server answers, and how much it takes on."""

from __future__ import annotations

import pytest

from streamt1_plugins.evaluation.remote.admission import Admission, BusyError, host_of, refusal

HOSTS = ["localhost", "LOCALHOST:8700", "127.0.0.1:1", "[::1]:8700", "judge.lan", "Judge.lan:80"]
FOREIGN = [
    "evil.com",
    "localhost.evil.com",
    "127.0.0.1.evil.com",
    "10.0.0.1",
    "",
    "[::1",
    "[::2]",
    "localhost:x",
    "::1",
]
TRICKS = ["localhost@evil.com", "evil.com@localhost", "localhost/", "localhost?x", "localhost#x", "localhost, evil.com"]


@pytest.mark.parametrize("host", HOSTS)
def test_a_request_to_this_server_is_taken(host: str) -> None:
    assert refusal([(b"host", host.encode())], "127.0.0.1", ["judge.lan"]) is None
    same = [(b"host", host.encode()), (b"origin", f"http://{host}".encode())]
    assert refusal(same, "127.0.0.1", ["judge.lan"]) is None


@pytest.mark.parametrize("host", FOREIGN + TRICKS)
def test_a_request_to_another_name_is_refused(host: str) -> None:
    why = refusal([(b"host", host.encode())], "127.0.0.1", ["judge.lan"])
    assert why is not None
    assert "--allow-host" in why


def test_a_request_has_one_host() -> None:
    assert refusal([], "127.0.0.1", []) == "The request must have one Host."
    assert refusal([(b"host", b"localhost"), (b"host", b"evil.com")], "127.0.0.1", []) is not None


@pytest.mark.parametrize(
    "origin", ["http://evil.com", "null", "", "http://localhost.evil.com", "http://localhost:1", "http://["]
)
def test_a_request_of_a_web_page_is_refused(origin: str) -> None:
    headers = [(b"host", b"localhost"), (b"origin", b"http://localhost"), (b"origin", origin.encode())]
    why = refusal(headers, "127.0.0.1", [])
    assert why is not None
    assert "web pages" in why


def test_local_names_count_at_local_addresses_alone() -> None:
    assert refusal([(b"host", b"localhost")], "10.0.0.1", []) is not None
    assert refusal([(b"host", b"10.0.0.1:8700")], "10.0.0.1", []) is None


def test_a_host_is_read_without_its_port() -> None:
    assert [host_of(each) for each in ("A:1", "[::1]:2", "a:99999999", "")] == ["a", "::1", None, None]


def test_room_is_given_back_and_never_exceeded() -> None:
    admission = Admission(max_requests=2, max_bytes=10)
    # Alone, a body may be larger: its size has another limit.
    with admission.admitted(100), pytest.raises(BusyError), admission.admitted(1):
        pass
    with admission.admitted(5), admission.admitted(5), pytest.raises(BusyError), admission.admitted(0):
        pass
    with pytest.raises(ZeroDivisionError), admission.admitted(5):
        raise ZeroDivisionError
    assert (admission.requests, admission.bytes) == (0, 0)
