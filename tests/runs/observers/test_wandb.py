"""The wandb observer, for real: what it wrote in offline mode is read back from wandb's own file."""

from __future__ import annotations

import json
import os
import struct
import sys
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

import streamt1_plugins as streamt1
from streamt1_plugins.errors import PluginError
from streamt1_plugins.runs.observers.record import record_to
from streamt1_plugins.runs.observers.wandb import ID_FILE, Wandb
from streamt1_plugins.runs.observers.wandb_run import OwnRun
from tests.search.revising import Returning
from tests.toy import ToyPipeline

wandb = pytest.importorskip("wandb")
from wandb.proto.wandb_internal_pb2 import Record  # noqa: E402

BLOCK, HEADER, FILE_HEADER = 32768, 7, 7


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    hooks = sys.excepthook, sys.exit  # which a run of the tests' own changes
    for name in ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR", "WANDB_ARTIFACT_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "wandb"))
    monkeypatch.setenv("WANDB_SILENT", "true")
    for name in ("RANK", "WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "wandb").mkdir()
    yield
    sys.excepthook, sys.exit = hooks
    wandb.teardown()  # or it would keep this test's folders for the next one


def run(tmp_path: Path, *overrides: str, **options: Any) -> streamt1.StreamPipeline:
    folder = tmp_path / "run"
    options = {"mode": "offline", "folder": str(folder), "project": "test", **options}
    observers = {**record_to(folder), "wandb": Wandb(**options)}
    pipe = streamt1.wrap(ToyPipeline(), overrides=overrides, observers=observers)
    pipe("a prompt")
    return pipe


def chunks_of(content: bytes) -> Iterator[tuple[int, bytes]]:
    """(type, data) of the pieces of a LevelDB log, the format of .wandb files."""
    at = FILE_HEADER
    while at + HEADER <= len(content):
        if BLOCK - at % BLOCK < HEADER:
            at += BLOCK - at % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", content[at : at + HEADER])
        yield kind, content[at + HEADER : at + HEADER + length]
        at += HEADER + length


def records_by_run(tmp_path: Path) -> list[list[Record]]:
    """Everything wandb wrote, a list per run."""
    wandb.teardown()  # its process writes the last lines when it goes
    found: list[list[Record]] = []
    for file in sorted(tmp_path.rglob("*.wandb")):
        content, data = file.read_bytes(), b""
        assert content[:4] == b":W&B"
        found.append([])
        for kind, piece in chunks_of(content):
            data = data + piece if kind in (3, 4) else piece  # whole 1, first 2, middle 3, last 4
            if kind in (1, 4):
                found[-1].append(Record.FromString(data))
    return found


def records(tmp_path: Path) -> list[Record]:
    """Everything wandb wrote, over all runs."""
    return [record for found in records_by_run(tmp_path) for record in found]


def history(found: list[Record]) -> list[dict[str, Any]]:
    """Logged rows; what has parts (media) is a dictionary."""
    rows = []
    for record in found:
        if record.HasField("history"):
            row: dict[str, Any] = {}
            for item in record.history.item:
                name, *part = item.nested_key or [item.key]
                if part:
                    row.setdefault(name, {})[part[0]] = json.loads(item.value_json)
                else:
                    row[name] = json.loads(item.value_json)
            rows.append(row)
    return rows


def media(tmp_path: Path, value: dict[str, Any]) -> Path:
    (path,) = tmp_path.rglob(f"files/{value['path']}")
    return path


def contents(artifact: Any) -> dict[str, Path]:
    """What is in an artifact, by its name there."""
    return {entry.path: Path(entry.local_path) for entry in artifact.manifest.contents}


def test_scalars_lie_on_a_chunk_axis(tmp_path: Path) -> None:
    pipe = run(tmp_path)
    rows = [row for row in history(records(tmp_path)) if "score/best" in row]
    assert [row["chunk"] for row in rows] == [0, 1, 2, 3]
    for row in rows:
        scores = [node.score for node in pipe.tree.chunk(row["chunk"])]
        assert row["score/best"] == pytest.approx(max(scores))
        assert row["score/mean"] == pytest.approx(sum(scores) / len(scores))
        assert (row["count/candidates"], row["count/kept"]) == (4, 2)
        assert {"seconds", "count/sinks", "score/spread", "short/bright", "long/bright"} <= set(row)
        assert sum(value for name, value in row.items() if name.startswith("route/")) == 2
    axes = {
        m.metric.name or m.metric.glob_name: m.metric.step_metric for m in records(tmp_path) if m.HasField("metric")
    }
    assert axes["*"] == "chunk"


def test_candidates_come_chunk_by_chunk_and_whole_at_the_end(tmp_path: Path) -> None:
    pipe = run(tmp_path)
    found = records(tmp_path)
    rows = history(found)
    parts = [row["candidates_by_chunk"] for row in rows if "candidates_by_chunk" in row]
    assert len(parts) == 4
    assert all(part["log_mode"] == "INCREMENTAL" for part in parts)
    added = [line for part in parts for line in json.loads(media(tmp_path, part).read_text())["data"]]
    (whole,) = [row["all_candidates"] for row in rows if "all_candidates" in row]
    table = json.loads(media(tmp_path, whole).read_text())
    for lines in (added, table["data"]):
        assert [line[0] for line in lines] == list(pipe.tree.nodes)
        assert {line[table["columns"].index("fate")] for line in lines} == {"kept", "pruned"}
        assert [int(line[table["columns"].index("seed")]) for line in lines] == [node.seed for node in pipe.tree]
    # Pictures of a table travel in its artifact.
    (kept,) = [contents(record.artifact) for record in found if record.artifact.type == "run_table"]
    strips = [line[-1] for line in json.loads(kept["all_candidates.table.json"].read_text())["data"]]
    assert [strip["caption"] for strip in strips] == list(pipe.tree.nodes)
    assert all(kept[strip["path"]].read_bytes()[:2] == b"\xff\xd8" for strip in strips)  # JPEG


def test_what_was_abandoned_is_in_the_table(tmp_path: Path) -> None:
    observers, policies = {"wandb": Wandb(mode="offline")}, {"revision": Returning(judged=2, to=1)}
    pipe = streamt1.wrap(ToyPipeline(), policies=policies, observers=observers)  # type: ignore[arg-type]
    pipe("a prompt")
    rows = history(records(tmp_path))
    (whole,) = [row["all_candidates"] for row in rows if "all_candidates" in row]
    table = json.loads(media(tmp_path, whole).read_text())
    fates = {line[0]: line[table["columns"].index("fate")] for line in table["data"]}
    assert fates == {node.id: node.fate for node in pipe.tree}
    assert list(fates.values()).count("abandoned") == 8


def test_the_page_the_videos_the_recipe_and_the_result_are_there(tmp_path: Path) -> None:
    pipe = run(tmp_path, group="several")
    found = records(tmp_path)
    rows = history(found)
    (page,) = [row["tree"] for row in rows if "tree" in row]
    text = media(tmp_path, page).read_text()
    assert all(f'data-node="{name}"' in text for name in pipe.tree.nodes)
    videos = [row["best_chunk"] for row in rows if "best_chunk" in row]
    assert len(videos) == 4
    assert media(tmp_path, videos[0]).read_bytes()[4:8] == b"ftyp"
    (started,) = [record.run for record in found if record.HasField("run") and record.run.config.update]
    config = {item.key: json.loads(item.value_json) for item in started.config.update}
    assert (started.project, started.run_group) == ("test", "several")
    assert (config["prompt"], config["seed"], config["search"]["top_k"]) == ("a prompt", 42, 2)
    assert (config["recipe_name"], config["call"]) == ("stream-t1", {})
    (final,) = [row["video"] for row in rows if "video" in row]
    assert media(tmp_path, final).read_bytes() == (tmp_path / "run" / "video.mp4").read_bytes()
    summary = {
        item.key or "/".join(item.nested_key): item.value_json
        for record in found
        if record.HasField("summary")
        for item in record.summary.update
    }
    assert json.loads(summary["winner"]) == list(pipe.tree.winner)


def test_the_run_folder_is_an_artifact_without_the_state(tmp_path: Path) -> None:
    run(tmp_path)
    (names,) = [contents(each.artifact) for each in records(tmp_path) if each.artifact.type == "streamt1-run"]
    assert {"journal.jsonl", "tree.json", "recipe.yaml", "report.html", "video.mp4"} <= set(names)
    assert not any(name.startswith("state/") for name in names)


def test_media_stay_within_their_budget(tmp_path: Path) -> None:
    run(tmp_path, media_mb=0)
    rows = history(records(tmp_path))
    assert not any("best_chunk" in row for row in rows)
    assert [row["chunk"] for row in rows if "score/best" in row] == [0, 1, 2, 3]


def test_only_the_main_process_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    run(tmp_path)
    assert records(tmp_path) == []


def test_every_process_logs_where_each_makes_a_video_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    run(tmp_path, every_process=True)
    assert [row["chunk"] for row in history(records(tmp_path)) if "score/best" in row] == [0, 1, 2, 3]


@pytest.mark.parametrize("trouble", ["none", "reward", "page", "interrupt"])
def test_a_run_of_the_program_stays_active_and_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    """Two videos, well or badly ended: two finished runs of wandb, and the program's own goes on as if alone."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    theirs = wandb.init(project="theirs")
    before = (wandb.run, wandb.log, wandb.config, wandb.summary)
    how = {"none": {}, "reward": {"how": "raise"}, "page": {}, "interrupt": {"how": "stop"}}[trouble]
    if trouble == "page":
        monkeypatch.setattr("streamt1_plugins.runs.observers.wandb.render", lambda _: 1 / 0)
    for name in ("a", "b"):
        folder = tmp_path / name
        observers = {**record_to(folder), "wandb": Wandb(project="test", folder=str(folder))}
        rewards = {"short": {"picky": {"on_error": "raise", "options": {"ordinals": list(range(9)), **how}}}}
        pipe = streamt1.wrap(ToyPipeline(), {"rewards": rewards}, observers=observers)
        with pytest.raises((PluginError, KeyboardInterrupt)) if how else nullcontext():
            pipe("a prompt")
        assert (wandb.run, wandb.log, wandb.config, wandb.summary) == before
    theirs.log({"mine": 1})
    theirs.finish()
    found = records_by_run(tmp_path)
    assert len(found) == 3
    (own,) = [each for each in found if any(record.run.project == "theirs" for record in each)]
    assert [row["mine"] for row in history(own) if "mine" in row] == [1]
    assert {item.key for record in own for item in record.run.config.update} <= {"_wandb"}, "the recipe is not theirs"
    for each in found:
        if each is not own:
            codes = [record.exit.exit_code for record in each if record.HasField("exit")]
            assert codes == [1 if how else 0], "it is finished, and failed where the run did"
            assert any("tree" in row for row in history(each)) == (trouble != "page")
            assert any(row.get("chunk") == 0 for row in history(each))


def test_a_failing_page_is_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("streamt1_plugins.runs.observers.wandb.render", lambda _: 1 / 0)
    run(tmp_path)
    assert sum("continues without it" in message for message in caplog.messages) == 1
    assert any(record.HasField("exit") for record in records(tmp_path))


def test_a_recipe_can_ask_for_it(tmp_path: Path) -> None:
    streamt1.wrap(ToyPipeline(), overrides=["observers={wandb: {mode: offline, project: mine}}"])("a prompt")
    assert any(record.run.project == "mine" for record in records(tmp_path))


def test_a_resumed_run_goes_on_in_the_same_wandb_run(tmp_path: Path) -> None:
    run(tmp_path)
    first = json.loads((tmp_path / "run" / ID_FILE).read_text())["id"]
    again = Wandb(mode="offline", project="test", folder=str(tmp_path / "run"), append=True)
    streamt1.resume(tmp_path / "run", ToyPipeline(), observers={"wandb": again})
    assert {record.run.run_id for record in records(tmp_path) if record.HasField("run")} == {first}


def test_without_a_connection_a_run_is_kept_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setattr("streamt1_plugins.runs.observers.wandb.START_SECONDS", 3)
    pipe = run(tmp_path, mode="online")
    assert len(pipe.tree.winner) == 4
    assert sum("kept offline" in message for message in caplog.messages) == 1
    assert [row["chunk"] for row in history(records(tmp_path)) if "score/best" in row] == [0, 1, 2, 3]


def test_whatever_breaks_is_said_once_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise ConnectionError("the line is dead")

    monkeypatch.setattr("streamt1_plugins.runs.observers.wandb.chunk_scalars", broken)
    pipe = run(tmp_path)
    assert len(pipe.tree.winner) == 4
    assert sum("the line is dead" in message for message in caplog.messages) == 1


def test_wandb_is_not_imported_until_a_run_starts() -> None:
    import subprocess

    code = "import sys, streamt1_plugins.runs.observers.wandb as w; w.Wandb(); sys.exit('wandb' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0


def test_tables_have_a_column_of_raw_readings_for_every_reward(tmp_path: Path) -> None:
    pipe = run(tmp_path, "rewards.short.picky={options: {chunk: 1, ordinals: [0]}}", "rewards.long.bright={}")
    rows = history(records(tmp_path))
    (whole,) = [row["all_candidates"] for row in rows if "all_candidates" in row]
    table = json.loads(media(tmp_path, whole).read_text())
    assert {"short/picky", "long/bright"} <= set(table["columns"])
    column = table["columns"].index("long/bright")
    assert [line[column] for line in table["data"]] == pytest.approx(
        [node.readings["long"]["bright"].raw for node in pipe.tree]
    )


def test_the_final_video_is_there_without_a_run_folder(tmp_path: Path) -> None:
    streamt1.wrap(ToyPipeline(), observers={"wandb": Wandb(mode="offline", media_mb=0.05)})("a prompt")
    (final,) = [row["video"] for row in history(records(tmp_path)) if "video" in row]
    assert media(tmp_path, final).read_bytes()[4:8] == b"ftyp"


def test_the_sizes_in_the_config_are_those_of_the_run(tmp_path: Path) -> None:
    import torch

    call = {"num_frames": 99, "generator": torch.Generator().manual_seed(1)}
    wrapped = streamt1.wrap(ToyPipeline(), observers={"wandb": Wandb(mode="offline")})
    wrapped("a prompt", **call)
    updates = [item for record in records(tmp_path) for item in (*record.config.update, *record.run.config.update)]
    first, *_, last = [json.loads(item.value_json) for item in updates if item.key == "video"]
    assert first["num_frames"] == 99  # as called
    assert (last["num_frames"], last["fps"]) == (12, 8.0)  # as made


@pytest.mark.parametrize(
    "make", [lambda: Wandb(), lambda: streamt1.wrap(ToyPipeline(), overrides=["observers={wandb: {}}"])]
)
def test_without_wandb_nothing_starts_and_the_command_is_named(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(PluginError, match=r"needs wandb: pip install 'streamt1-plugins\[wandb\]'"):
        make()


def test_a_run_is_resumed_without_wandb_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "run"
    streamt1.wrap(ToyPipeline(), observers=record_to(folder))("a prompt")
    journal = folder / "journal.jsonl"
    journal.write_text("".join(journal.read_text().splitlines(keepends=True)[:-1]))
    monkeypatch.setitem(sys.modules, "wandb", None)
    streamt1.resume(folder, ToyPipeline(), observers={"wandb": Wandb(append=True)})
    assert sum("continues without it" in message for message in caplog.messages) == 1


def test_a_failure_beside_the_search_is_said_once_and_ends_the_log_where_it_was_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ConnectionError("the line is dead")

    ended, real = list[tuple[bool, int]](), OwnRun.finish

    def finish(own: OwnRun, code: int) -> None:
        ended.append((threading.current_thread() is threading.main_thread(), code))
        real(own, code)

    monkeypatch.setattr("streamt1_plugins.runs.observers.wandb.encode_video", broken)
    monkeypatch.setattr(OwnRun, "finish", finish)
    pipe = run(tmp_path)
    assert len(pipe.tree.winner) == 4
    assert sum("the line is dead" in message for message in caplog.messages) == 1
    assert ended == [(True, 1)]
