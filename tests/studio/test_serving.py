"""The server itself: its address, the stream of events, and an end that loses nothing."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from streamt1_plugins.errors import InputError
from streamt1_studio.serving import Served
from streamt1_studio.studio import Studio
from tests.studio.serving import served
from tests.toy import ToyPipeline

ROOT = Path(__file__).parents[2]


def takes_in(stream: httpx.Response) -> Iterator[dict[str, Any]]:
    """The take, as often as the stream has news of it."""
    kind = ""
    for line in stream.iter_lines():
        kind = line.removeprefix("event: ") if line.startswith("event: ") else kind
        if kind == "take" and line.startswith("data: "):
            yield json.loads(line.removeprefix("data: "))


def test_events_have_what_changed_alone(studio: Studio) -> None:
    start = {"prompt": "a prompt", "recipe": "stream-t1", "seed": 1}
    with served(studio) as url, httpx.Client(base_url=url, timeout=60) as client:
        take = client.post("takes", json=start).json()["take"]
        seen, is_kept = 0, False
        with client.stream("GET", "events", params={"take": take}) as stream:
            for view in takes_in(stream):
                seen += len(view["nodes"])
                if view.get("candidates") and not is_kept:
                    is_kept = True
                    httpx.post(f"{url}takes/{take}/keep", json={})
                if view.get("candidates") and view["done"] == 1:
                    break
        assert seen == 4 + 4 + 4  # four new ones, the same with their fates, and four of the next chunk


def test_every_studio_has_another_token() -> None:
    tokens = {Served("127.0.0.1", 0).token for _ in range(3)}
    assert len(tokens) == 3
    assert all(len(token) >= 32 for token in tokens)


def test_it_listens_on_the_address_alone() -> None:
    server = Served("127.0.0.1", 0)
    assert server.url == f"http://127.0.0.1:{server._socket.getsockname()[1]}/{server.token}/"
    assert set(server.names) == {"localhost", "127.0.0.1", "::1"}
    with pytest.raises(InputError, match="Cannot serve"):
        Served("127.0.0.1", server._socket.getsockname()[1])
    everywhere = Served("0.0.0.0", 0)
    assert socket.gethostname() in everywhere.url
    assert socket.gethostname() in everywhere.names
    assert "0.0.0.0" not in everywhere.names


@pytest.mark.parametrize("host", ["nothing.invalid", "a b", "\x00", "", "[]"])
def test_a_host_that_is_none_is_refused(host: str) -> None:
    with pytest.raises(InputError, match="Cannot serve"):
        Served(host, 0)


def test_the_block_of_studio_md_serves_a_pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "studio.md").read_text(encoding="utf-8"), re.DOTALL)
    ran = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Served, "run", lambda server, studio: ran.append(studio))
    exec(compile(block.replace("8800", "0"), "studio.md", "exec"), {"pipe": ToyPipeline()})
    assert ran[0].is_closing
