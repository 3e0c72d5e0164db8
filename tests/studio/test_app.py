"""The studio over HTTP: what the page may do, and what nobody may do while a take goes on."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from streamt1_plugins.errors import InputError
from streamt1_studio import wishes
from streamt1_studio.app import PARTS, guarded
from streamt1_studio.guard import MOST_BYTES
from streamt1_studio.studio import Studio
from tests.studio.standin import CHUNKS, WIDTH, StandIn

TOKEN = "a-token"
BASE = f"http://127.0.0.1:8800/{TOKEN}/"
HTML = "<img src=x onerror=alert(1)>"
START = {"prompt": "a red circle", "recipe": "stream-t1", "seed": 1}


@pytest.fixture
def client(studio: Studio) -> TestClient:
    return TestClient(guarded(studio, TOKEN), base_url=BASE)


def until(find: Callable[[], Any]) -> Any:
    """What is found, as soon as it is."""
    end = time.monotonic() + 60
    while not (found := find()):
        assert time.monotonic() < end
        time.sleep(0.01)
    return found


def begun(client: TestClient, studio: Studio, **other: Any) -> dict[str, str]:
    """A take that waits for a person, or that was begun otherwise."""
    made = client.post("takes", json={**START, **other}).json()
    until(lambda: studio.sittings[made["take"]].state in ("waiting", "finished", "parked"))
    return dict(made)


def act(client: TestClient, studio: Studio, take: str, wish: str, **what: Any) -> dict[str, Any]:
    """What is to be seen of a take after a wish was done."""
    answer = client.post(f"takes/{take}/{wish}", json=what)
    assert answer.status_code == 200, answer.text
    until(lambda: studio.sittings[take].state in ("waiting", "finished", "parked"))
    return studio.sittings[take].view


def test_the_page_is_whole(client: TestClient) -> None:
    for name, (file, kind) in PARTS.items():
        answer = client.get(name)
        assert answer.status_code == 200, file
        assert answer.headers["content-type"].startswith(kind)
    page = client.get("").text
    assert "<script>" not in page
    assert "style=" not in page
    assert " on" not in "".join(part.partition(">")[0].split('"')[0] for part in page.split("<")[1:])


def test_no_script_of_the_page_makes_markup_of_text(client: TestClient) -> None:
    for name in ("studio.js", "draw.js"):
        text = client.get(name).text
        for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"):
            assert way not in text


def test_it_offers_recipes_and_words(client: TestClient, studio: Studio) -> None:
    model = client.get("model").json()
    assert {"plain", "beam", "stream-t1"} <= model["recipes"].keys()
    assert model["vocabulary"] == {}
    assert client.post("cost", json={"recipe": "no-such"}).json()["cost"].startswith("The studio offers no recipe")


def test_a_take_is_made_by_hand(client: TestClient, studio: Studio) -> None:
    made = begun(client, studio)
    sitting = studio.sittings[made["take"]]
    assert len(sitting.view["candidates"]) == WIDTH
    other = next(name for name in sitting.view["candidates"] if name not in sitting.view["choice"])
    view = act(client, studio, made["take"], "keep", node=other)
    assert view["path"] == [other]
    assert next(node for node in view["nodes"] if node["id"] == other)["by"] == "person"
    view = act(client, studio, made["take"], "reroll", count=3)
    assert len(view["candidates"]) == WIDTH + 3
    view = act(client, studio, made["take"], "back", chunk=0)
    assert (view["done"], view["path"]) == (0, [])
    assert act(client, studio, made["take"], "prompt", text="a blue star", memory="keep")["prompt"] == "a blue star"
    assert client.post(f"takes/{made['take']}/play", json={"on": True}).status_code == 200
    until(lambda: sitting.state == "finished")
    assert client.get(f"runs/{made['run']}/files/video").headers["content-disposition"].startswith("attachment")
    assert client.get(f"runs/{made['run']}").json()["state"] == "finished"


def test_a_refused_take_says_why_and_the_next_one_is_made(client: TestClient, studio: Studio) -> None:
    made = begun(client, studio, prompt="refused")
    assert studio.sittings[made["take"]].problem == "The prompt <b>refused</b> is refused."
    assert studio.sittings[begun(client, studio)["take"]].state == "waiting"


def test_a_second_take_waits_and_parks_the_first(client: TestClient, studio: Studio) -> None:
    first, second = begun(client, studio), begun(client, studio)
    assert [each["state"] for each in studio.queue()] == ["waiting", "parked"]
    chosen = studio.sittings[first["take"]].view["path"]
    act(client, studio, first["take"], "reroll")
    assert studio.sittings[first["take"]].view["path"] == chosen
    assert studio.sittings[second["take"]].state == "parked"


def test_playing_is_stopped_and_goes_on(client: TestClient, studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StandIn, "pause", 0.02)
    made = client.post("takes", json={**START, "play": True}).json()
    sitting = studio.sittings[made["take"]]
    until(lambda: sitting.view.get("done", 0) >= 1)
    client.post(f"takes/{made['take']}/play", json={"on": False})
    until(lambda: sitting.state == "waiting")
    assert sitting.view["done"] < CHUNKS
    client.post(f"takes/{made['take']}/play", json={"on": True})
    until(lambda: sitting.state == "finished")
    assert sitting.pace > 0


def test_closing_parks_what_is_open(client: TestClient, studio: Studio) -> None:
    made = begun(client, studio)
    studio.close()
    assert studio.sittings[made["take"]].state == "parked"


def test_an_earlier_run_is_opened_and_branched(client: TestClient, studio: Studio) -> None:
    made = begun(client, studio)
    act(client, studio, made["take"], "keep")
    act(client, studio, made["take"], "park")
    studio.sittings.clear()  # as after a restart
    view = client.get(f"runs/{made['run']}").json()
    assert view["prompt"] == "a red circle"
    assert view["path"] == [next(node["id"] for node in view["nodes"] if node["rank"] == 0)]
    assert all(node["frames"] for node in view["nodes"])
    node = view["nodes"][0]["id"]
    assert client.get(f"runs/{made['run']}/strips/{node}").headers["content-type"] == "image/webp"
    branched = client.post(f"runs/{made['run']}/branch", json={"node": node}).json()
    until(lambda: studio.sittings[branched["take"]].state == "waiting")
    assert studio.sittings[branched["take"]].view["path"] == [node]
    opened = client.post(f"runs/{made['run']}/open", json={}).json()
    until(lambda: studio.sittings[opened["take"]].state == "waiting")
    assert opened["run"] == made["run"]
    assert client.post(f"runs/{made['run']}/open", json={}).json() == opened  # it is open already


def test_only_plain_files_of_runs_are_read(client: TestClient, studio: Studio, tmp_path: Path) -> None:
    made = begun(client, studio)
    run = studio.sittings[made["take"]].folder
    secret = tmp_path / "secret"
    secret.write_text('{"nodes": []}')
    for name in ("recipe.yaml", "report.html"):
        (run / name).symlink_to(secret)
    os.mkfifo(run / "video.mp4")
    (run / "strips" / "000.09-3.webp").symlink_to(secret)
    for what in ("recipe", "page", "video"):
        assert client.get(f"runs/{made['run']}/files/{what}").status_code == 404
    assert client.get(f"runs/{made['run']}/strips/000.09").status_code == 404
    (studio.folder / "link").symlink_to(run)
    assert [each["name"] for each in studio.shelf.runs()] == [run.name]


def test_damaged_records_are_shown_as_far_as_they_go(client: TestClient, studio: Studio) -> None:
    folder = studio.folder / "damaged"
    folder.mkdir(parents=True)
    (folder / "journal.jsonl").write_text('{"prompt": ["x"], "seed": {}, "chunks": "many"}\n')
    run = studio.shelf.runs()[0]
    assert (run["prompt"], run["chunks"]) == ("", 0)
    for text in ("", "[", "[]", '{"nodes": 3}', '{"nodes": [1, {"id": 3}]}', '{"winner": 4}', '{"actions": [3]}'):
        (folder / "tree.json").write_text(text)
        assert client.get(f"runs/{run['id']}").status_code == 200, text


# Hostile requests while a take goes on.

BIG = "x" * (MOST_BYTES + 1)
FIELDS: list[tuple[str, Any]] = [
    ("takes", {**START, "prompt": "x" * 4001}),
    ("takes", {**START, "prompt": ""}),
    ("takes", {**START, "prompt": "\u0000"}),
    ("takes", {**START, "prompt": ["a"]}),
    ("takes", {**START, "recipe": HTML}),
    ("takes", {**START, "recipe": "../../etc/passwd"}),
    ("takes", {**START, "recipe": "/etc/passwd"}),
    ("takes", {**START, "seed": HTML}),
    ("takes", {**START, "seed": -1}),
    ("takes", {**START, "seed": 2**70}),
    ("takes", {**START, "seed": 1.5}),
    ("takes", {**START, "frames": 10**9}),
    ("takes", {**START, "frames": HTML}),
    ("takes", {**START, "folder": "/tmp/x"}),
    ("takes", {**START, "play": "yes"}),
    ("takes", [START]),
    ("takes", HTML),
    ("takes", None),
    ("takes", {"prompt": HTML}),
    ("takes/TAKE/keep", {"node": HTML}),
    ("takes/TAKE/keep", {"node": "../000.00"}),
    ("takes/TAKE/keep", {"node": "999999.99"}),
    ("takes/TAKE/reroll", {"count": 10**9}),
    ("takes/TAKE/reroll", {"refine": HTML}),
    ("takes/TAKE/back", {"chunk": -1}),
    ("takes/TAKE/back", {"chunk": HTML}),
    ("takes/TAKE/prompt", {"text": "a", "memory": HTML}),
    ("takes/TAKE/prompt", {"text": "x" * 5000}),
    ("takes/TAKE/play", {"on": 1}),
    ("takes/TAKE/play", {}),
    (f"takes/TAKE/{HTML}", {}),
    ("takes/TAKE/__class__", {}),
    (f"takes/{HTML}/keep", {}),
    ("takes/../takes/TAKE/keep/..", {}),
    ("runs/RUN/branch", {"node": "/etc/passwd"}),
    ("runs/%2e%2e/open", {}),
    ("runs/..%2f..%2fetc/open", {}),
]
PATHS = [
    "runs/RUN/files/..%2f..%2fsecret",
    "runs/RUN/files/journal.jsonl",
    "runs/RUN/files/",
    "runs/RUN/strips/..%2f..%2ftree.json",
    "runs/RUN/strips/000.00-6.webp",
    "runs/RUN/strips/%00",
    "runs/../../etc/passwd",
    "runs//etc/passwd",
    "runs/%2fetc%2fpasswd",
    "../../../etc/passwd",
    "page/index.html",
    "studio.py",
    "..%2fstudio.py",
    "studio.css/",
    f"runs/{HTML}",
    "%ff%fe",
]


def hostile() -> list[tuple[str, str, dict[str, Any]]]:
    """Requests that are refused: method, address below the token or a whole one, and the rest."""
    headers = {"Content-Type": "application/json"}
    found = [("POST", path, {"content": json.dumps(wish), "headers": headers}) for path, wish in FIELDS]
    found += [("GET", path, {}) for path in PATHS]
    found += [
        ("POST", "takes", {"json": START, "headers": {"Host": "evil.example"}}),
        ("POST", "takes", {"json": START, "headers": {"Origin": "http://evil.example"}}),
        ("POST", "takes", {"json": START, "headers": {"Origin": "null"}}),
        ("POST", "takes", {"json": START, "headers": {"Sec-Fetch-Site": "cross-site"}}),
        ("POST", "takes", {"content": json.dumps(START), "headers": {"Content-Type": "text/plain"}}),
        ("POST", "takes", {"data": {"prompt": "a"}}),
        ("POST", "takes", {"content": json.dumps({**START, "prompt": BIG}), "headers": headers}),
        ("POST", "takes", {"content": b"\xff\xfe", "headers": headers}),
        ("POST", "takes", {"content": "[" * 9000, "headers": headers}),
        ("POST", "http://127.0.0.1:8800/takes", {"json": START}),
        ("POST", "http://127.0.0.1:8800/wrong/takes", {"json": START}),
        ("GET", "http://127.0.0.1:8800/", {}),
        ("GET", "events", {"headers": {"Host": "evil.example"}}),
        ("GET", "takes", {}),
        ("PUT", "takes", {"json": START}),
        ("DELETE", "runs/RUN", {}),
        ("OPTIONS", "takes", {"headers": {"Origin": "http://evil.example"}}),
    ]
    return found


def test_hostile_requests_change_nothing_while_a_take_goes_on(
    client: TestClient, studio: Studio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret").write_text("secret")
    monkeypatch.setattr(StandIn, "pause", 0.02)
    made = client.post("takes", json={**START, "play": True}).json()
    requests = hostile()
    assert len(requests) >= 50
    for method, path, rest in requests:
        path = path.replace("TAKE", made["take"]).replace("RUN", made["run"])
        answer = client.request(method, path, **rest)
        late = path.endswith(("/keep", "/prompt")) and answer.status_code == 200  # refused when its turn comes
        assert 400 <= answer.status_code < 500 or late, (method, path, rest, answer.text)
        assert "secret" not in answer.text
        assert answer.headers["content-type"].startswith("application/json") or late
        client.post(f"takes/{made['take']}/play", json={"on": True})
    assert list(studio.sittings) == [made["take"]]
    until(lambda: studio.sittings[made["take"]].state == "finished")
    assert studio.sittings[made["take"]].view["done"] == CHUNKS


def test_what_is_sent_comes_back_as_data_alone(client: TestClient, studio: Studio) -> None:
    made = begun(client, studio, prompt=HTML)
    answer = client.get(f"runs/{made['run']}")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["prompt"] == HTML


def test_a_take_has_a_bounded_number_of_wishes(
    client: TestClient, studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = begun(client, studio)
    monkeypatch.setattr(StandIn, "pause", 0.2)
    answers = [client.post(f"takes/{made['take']}/reroll", json={}).status_code for _ in range(20)]
    assert answers[0] == 200
    assert 422 in answers


def test_a_wish_names_its_wrong_field() -> None:
    with pytest.raises(InputError, match="seed"):
        wishes.read(wishes.Start, json.dumps({**START, "seed": "1"}).encode())
