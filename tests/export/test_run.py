"""Runs as data in a folder: lines and tensors, continued, loaded, refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

import streamt1_plugins as streamt1
from streamt1_plugins.errors import FolderInUseError, InputError
from streamt1_plugins.export.run import DATA, INDEX, TENSORS, ExportedRun, export_runs, opened, run_folders, summary
from streamt1_plugins.export.tensors import file_of
from streamt1_plugins.runs.recorded import RecordedRun
from tests.export.runs import lines, recorded
from tests.toy import ToyPipeline, ToySession

OLD = Path(__file__).parents[1] / "data" / "runs-0.1"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, _toy_plugin: None) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for name, seed in (("one", 1), ("two", 2)):
        recorded(folder / name, f"seed={seed}")
    return folder


def tensor(out: Path, run: str, node: str) -> torch.Tensor:
    with safe_open(out / TENSORS / run / file_of(int(node.partition(".")[0])), "pt") as file:
        found: torch.Tensor = file.get_tensor(node)
        return found


@pytest.mark.parametrize("kind", ["preferences", "groups"])
def test_lines_name_tensors_that_are_there_with_all_their_history(tmp_path: Path, runs: Path, kind: Any) -> None:
    found = export_runs([runs / "one", runs / "two"], tmp_path, kind)
    assert [each.name for each in found] == ["one", "two"]
    assert all(each.new and each.records == len(lines(tmp_path, each.name)) > 3 for each in found)
    for each in found:
        for line in lines(tmp_path, each.name):
            own = [line["chosen"], line["rejected"]] if kind == "preferences" else line["candidates"]
            for node in [*line["path"], *(candidate["id"] for candidate in own)]:
                assert tensor(tmp_path, each.name, node).shape == (1, 2, 3, 2, 2)
    assert summary(found)["records"] == found[0].records + found[1].records
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".pkl", ".pt", ".pickle")]


def test_the_data_are_loaded_with_datasets(tmp_path: Path, runs: Path) -> None:
    datasets = pytest.importorskip("datasets")
    for kind in ("preferences", "groups"):
        out = tmp_path / kind
        found = export_runs(runs, out, kind, "none")  # type: ignore[arg-type]
        files = [str(path) for path in sorted((out / DATA).glob("*.jsonl"))]
        data = datasets.load_dataset("json", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
        assert len(data) == sum(each.records for each in found)
        assert set(data["run"]) == {"one", "two"}
        first = data[0]
        one = first["chosen"] if kind == "preferences" else first["candidates"][0]
        assert one["readings"][0]["reward"] == "bright"
        assert isinstance(one["score"], float)
        assert first["path"] == []


def test_without_tensors_no_model_is_loaded(tmp_path: Path, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streamt1.pipeline, "load", None)
    found = export_runs(str(runs / "one"), tmp_path / "out", "groups", "none")
    assert found[0].records
    assert not (tmp_path / "out" / TENSORS).exists()


def test_a_later_call_writes_only_what_is_missing(tmp_path: Path, runs: Path) -> None:
    first = export_runs(runs / "one", tmp_path / "out", tensors="none")
    before = (tmp_path / "out" / DATA / "one.jsonl").stat().st_mtime_ns
    both = export_runs([runs / "one", runs / "two"], tmp_path / "out", tensors="none")
    assert [each.new for each in both] == [False, True]
    assert both[0] == ExportedRun("one", first[0].records, first[0].candidates, new=False)
    assert (tmp_path / "out" / DATA / "one.jsonl").stat().st_mtime_ns == before


def test_another_run_of_the_same_name_gets_a_number(tmp_path: Path, runs: Path) -> None:
    shutil.copytree(runs / "two", tmp_path / "other" / "one")
    shutil.copytree(runs / "one", tmp_path / "moved" / "one")
    given = [runs / "one", tmp_path / "other" / "one", tmp_path / "moved" / "one"]
    found = export_runs(given, tmp_path / "out", tensors="none")
    assert [(each.name, each.new) for each in found] == [("one", True), ("one-2", True), ("one", False)]


def test_an_interrupted_export_leaves_no_line_and_is_continued(
    tmp_path: Path, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = ToySession.generate

    def breaking(self: ToySession, history: Any, *rest: Any) -> Any:
        if history.index == 1:
            raise KeyboardInterrupt
        return real(self, history, *rest)

    monkeypatch.setattr(ToySession, "generate", breaking)
    with pytest.raises(KeyboardInterrupt):
        export_runs(runs / "one", tmp_path)
    assert not (tmp_path / DATA).exists()
    monkeypatch.setattr(ToySession, "generate", real)
    assert export_runs(runs / "one", tmp_path)[0].new


def test_what_a_killed_export_left_is_written_over(tmp_path: Path, runs: Path) -> None:
    whole = export_runs(runs / "one", tmp_path / "whole")
    export_runs(runs / "two", tmp_path / "out", tensors="latents")
    (tmp_path / "out" / TENSORS / "one").mkdir(parents=True)
    (tmp_path / "out" / TENSORS / "one" / file_of(0)).write_bytes(b"torn")
    (tmp_path / "out" / DATA / "one.jsonl").write_text("{")
    assert export_runs(runs / "one", tmp_path / "out") == whole
    name = lines(tmp_path / "out", "one")[0]["chosen"]["id"]
    assert torch.equal(tensor(tmp_path / "out", "one", name), tensor(tmp_path / "whole", "one", name))


def test_runs_of_version_0_1_are_exported(tmp_path: Path) -> None:
    found = export_runs(OLD / "toy", tmp_path, "groups", pipe=ToyPipeline())
    assert found[0].records
    line = lines(tmp_path, "toy")[-1]
    assert tensor(tmp_path, "toy", line["candidates"][0]["id"]).shape[0] == 1


def test_a_run_without_a_search_gives_no_line(tmp_path: Path) -> None:
    pipe = streamt1.load("toy", "plain", observers=streamt1.record_to(tmp_path / "run"))
    pipe("a prompt")
    found = export_runs(tmp_path / "run", tmp_path / "out")
    assert (found[0].records, found[0].candidates) == (0, 0)
    assert lines(tmp_path / "out", "run") == []


def test_folders_of_runs_stand_for_their_runs(runs: Path) -> None:
    assert run_folders(runs) == [runs / "one", runs / "two"]
    assert run_folders([runs / "two", runs]) == [runs / "two", runs / "one"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "preference"}, "`kind` has to be 'preferences' or 'groups', got 'preference'. Did you mean"),
        ({"tensors": "latent"}, "`tensors` has to be 'latents' or 'frames' or 'none', got 'latent'. Did you mean"),
        ({"runs": []}, "name at least one run folder"),
    ],
)
def test_wrong_arguments_are_named(tmp_path: Path, runs: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        export_runs(**{"runs": runs, "out": tmp_path / "out", **arguments})
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["empty", "nothing", "file"])
def test_what_is_no_run_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("no run")
    with pytest.raises(InputError, match=f"{name} holds no run: it has no journal.jsonl"):
        export_runs(tmp_path / name, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_folders_with_other_data_are_refused(tmp_path: Path, runs: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").write_bytes(b"")
    with pytest.raises(InputError, match="holds other files"):
        export_runs(runs, tmp_path / "photos")
    export_runs(runs / "one", tmp_path / "out", tensors="none")
    with pytest.raises(InputError, match=r"holds 'preferences' with 'none'.*this call writes 'groups' with 'none'"):
        export_runs(runs, tmp_path / "out", "groups", "none")
    for damage in (
        "{",
        "[]",
        '{"schema": 1}',
        json.dumps({"schema": 1, "as": "groups", "tensors": "none", "runs": {"a": 1}}),
    ):
        (tmp_path / "out" / INDEX).write_text(damage)
        with pytest.raises(InputError, match="cannot be read"):
            export_runs(runs, tmp_path / "out", "groups", "none")


def test_a_second_export_into_the_folder_is_refused_until_the_first_has_ended(tmp_path: Path, runs: Path) -> None:
    out, arguments = tmp_path / "out", ("groups", "none", {})
    with opened(out, *arguments) as first:
        with pytest.raises(FolderInUseError, match=f"is writing to the folder {out}"):
            export_runs(runs / "two", out, "groups", "none")
        first.write(RecordedRun.read(runs / "one"))
    assert [each.new for each in export_runs(runs, out, "groups", "none")] == [False, True]
    assert sorted(each.name for each in out.iterdir()) == [DATA, INDEX]


def test_a_record_that_was_changed_is_refused(tmp_path: Path, runs: Path) -> None:
    shutil.copytree(runs / "one", tmp_path / "one")
    file = tmp_path / "one" / "journal.jsonl"
    first, rest = file.read_text().split("\n", 1)
    file.write_text(first.replace('"a prompt"', '"b prompt"') + "\n" + rest)
    with pytest.raises(InputError, match="was changed after it was written"):
        export_runs(tmp_path / "one", tmp_path / "out")
    assert RecordedRun.read(tmp_path / "one").edited
