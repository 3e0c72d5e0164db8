"""The guard alone: which requests get through, whatever the app behind it is."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from streamt1_studio.guard import MOST_BYTES, POLICY, Guard

TOKEN = "the-token"
JSON = {"Content-Type": "application/json"}


async def echo(request: Request) -> JSONResponse:
    return JSONResponse({"path": request.url.path, "body": (await request.body()).decode()})


@pytest.fixture
def client() -> TestClient:
    methods = ["GET", "POST", "PUT", "DELETE", "OPTIONS"]
    inner = Starlette(routes=[Route("/{rest:path}", echo, methods=methods)])
    return TestClient(Guard(inner, TOKEN), base_url="http://127.0.0.1:8800")


def test_a_request_with_the_token_gets_through_without_it(client: TestClient) -> None:
    assert client.get(f"/{TOKEN}/takes/a").json() == {"path": "/takes/a", "body": ""}
    assert client.post(f"/{TOKEN}/takes", json={"a": 1}).json() == {"path": "/takes", "body": '{"a":1}'}
    assert client.get(f"/{TOKEN}/").json()["path"] == "/"


def test_every_answer_has_the_policy(client: TestClient) -> None:
    for answer in (client.get(f"/{TOKEN}/"), client.get("/")):
        assert answer.headers["Content-Security-Policy"] == POLICY
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["Cache-Control"] == "no-store"
        assert "access-control-allow-origin" not in answer.headers
    assert "unsafe" not in POLICY


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/takes",
        "/wrong/",
        f"/{TOKEN[:-1]}/",
        f"/{TOKEN}x/",
        f"/{TOKEN.upper()}/",
        "//",
        f"/x/{TOKEN}/",
        "/%00/",
        "/\u00e9/",
    ],
)
def test_without_the_token_nothing_is_answered(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 403


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost@evil.example",
        "evil.example:8800",
        "[::2]",
        "",
        "127.0.0.1/x",
        "10.0.0.1",
    ],
)
def test_another_host_is_refused(client: TestClient, host: str) -> None:
    assert client.get(f"/{TOKEN}/", headers={"Host": host}).status_code == 403


@pytest.mark.parametrize("host", ["localhost:8800", "127.0.0.1", "[::1]:8800", "LOCALHOST:1"])
def test_the_names_of_this_machine_are_taken(client: TestClient, host: str) -> None:
    assert client.get(f"/{TOKEN}/", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "null",
        "http://127.0.0.1:8801",
        "file://",
        "https://localhost:8800",
        "127.0.0.1:8800",
        "http://[",
        "chrome-extension://abc",
    ],
)
def test_another_origin_is_refused(client: TestClient, origin: str) -> None:
    assert client.post(f"/{TOKEN}/", json={}, headers={"Origin": origin}).status_code == 403
    assert client.get(f"/{TOKEN}/", headers={"Origin": origin}).status_code == 403


def test_its_own_origin_is_taken(client: TestClient) -> None:
    assert client.post(f"/{TOKEN}/", json={}, headers={"Origin": "http://127.0.0.1:8800"}).status_code == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_request_that_another_page_made_is_refused(client: TestClient, site: str) -> None:
    assert client.get(f"/{TOKEN}/", headers={"Sec-Fetch-Site": site}).status_code == 403


def test_a_link_on_another_page_may_be_followed_and_changes_nothing(client: TestClient) -> None:
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "document"}
    assert client.get(f"/{TOKEN}/", headers=headers).status_code == 200
    sent = {**headers, "Origin": "http://evil.example"}  # which a browser adds to what a form sends
    assert client.post(f"/{TOKEN}/", json={}, headers=sent).status_code == 403


def test_two_hosts_are_refused(client: TestClient) -> None:
    headers = [("Host", "127.0.0.1"), ("Host", "evil.example")]
    assert client.get(f"/{TOKEN}/", headers=headers).status_code == 403


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])
def test_other_methods_are_refused(client: TestClient, method: str) -> None:
    assert client.request(method, f"/{TOKEN}/").status_code == 405


def test_a_body_is_json_of_a_declared_size(client: TestClient) -> None:
    path = f"/{TOKEN}/"
    assert (
        client.post(path, content=b"a=1", headers={"Content-Type": "application/x-www-form-urlencoded"}).status_code
        == 415
    )
    assert client.post(path, content=b"{}").status_code == 415
    assert client.post(path, content=iter([b"{}"]), headers=JSON).status_code == 411
    assert client.post(path, content=b" " * (MOST_BYTES + 1), headers=JSON).status_code == 413
    assert client.post(path, content=b"{}", headers={**JSON, "Content-Length": "9" * 30}).status_code == 413
    assert client.post(path, content=b" " * MOST_BYTES, headers=JSON).status_code == 200


def test_a_body_that_is_longer_than_declared_or_late_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    read, sent = [], []

    async def endless() -> dict[str, Any]:
        read.append(1)
        return {"type": "http.request", "body": b" " * 8192, "more_body": True}

    async def never() -> dict[str, Any]:
        await asyncio.sleep(60)
        raise AssertionError

    async def note(message: Any) -> None:
        sent.append(message)

    async def inner(*_: Any) -> None:
        raise AssertionError

    monkeypatch.setattr("streamt1_studio.guard.BODY_SECONDS", 0.01)
    for receive, status in ((endless, 413), (never, 408)):
        sent.clear()
        asyncio.run(Guard(inner, TOKEN)(SCOPE, receive, note))
        assert sent[0]["status"] == status
    assert len(read) <= MOST_BYTES // 8192 + 1


HEADERS = [(b"host", b"127.0.0.1"), (b"content-type", b"application/json"), (b"content-length", b"2")]
SCOPE = {"type": "http", "method": "POST", "path": f"/{TOKEN}/", "headers": HEADERS, "query_string": b""}
