from __future__ import annotations

import copy
import json
import math
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

import streamt1_plugins as streamt1
from streamt1_backbones.checkpoint import merge_lora
from streamt1_backbones.frames import CLIP_MEAN, CLIP_STD, normalise
from streamt1_backbones.patches import patchify
from streamt1_plugins.api.reward import RewardInput, RewardOutput
from streamt1_plugins.errors import PluginError, RecipeError
from streamt1_plugins.plugins import build
from streamt1_plugins.plugins.discovery import discovery
from streamt1_plugins.testing import RewardContract
from streamt1_videoalign.reward import VideoAlign
from streamt1_videoalign.sampling import anchored, chunk_lengths, trained
from tests.rewards import tiny_qwen2vl as tiny
from tests.toy import ToyPipeline

if TYPE_CHECKING:
    from torch import Tensor

torch.set_num_threads(1)
GOLDEN = json.loads((Path(__file__).parent / "golden" / "qwen2vl.json").read_text(encoding="utf-8"))["video"]
TEMPLATE = (
    'DETAILED_PROMPT_WITH_SPECIAL_TOKEN = """Looks: <|VQ_reward|> moves: <|MQ_reward|> '
    'shows {text_prompt}: <|TA_reward|>"""\n'
)


def save(root: Path) -> Path:
    tiny.save_base(root / "base")
    tiny.save_videoalign(root / "model")
    (root / "prompt_template.py").write_text("import no_such_module\n" + TEMPLATE, encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("videoalign"))


def make(folder: Path, **options: Any) -> VideoAlign:
    given = {
        "model": str(folder / "model"), "base": str(folder / "base"), "template_file": folder / "prompt_template.py",
    }  # fmt: skip
    return VideoAlign(**{**given, **options})


def load(folder: Path, **options: Any) -> VideoAlign:
    reward = make(folder, **options)
    reward.load("cpu")
    return reward


@pytest.fixture(scope="module")
def loaded(folder: Path) -> VideoAlign:
    return load(folder)


def output(reward: VideoAlign, inp: RewardInput) -> RewardOutput:
    with torch.inference_mode():
        return reward.score(inp)


class Contract(RewardContract):
    tolerance = 2e-5
    sampling = "paper"

    @classmethod
    def setup_class(cls) -> None:
        cls.temporary = tempfile.TemporaryDirectory()
        cls.folder = save(Path(cls.temporary.name))
        super().setup_class()

    @classmethod
    def teardown_class(cls) -> None:
        super().teardown_class()
        cls.temporary.cleanup()

    def make_reward(self) -> VideoAlign:
        return make(self.folder, sampling=self.sampling)


class TestContract(Contract):
    pass


class TestContractAnchored(Contract):
    sampling = "anchored"


# As trained.


def visual(reward: VideoAlign) -> Tensor:
    pictures = normalise(tiny.frames(8) / 255, CLIP_MEAN, CLIP_STD).view(4, 2, 3, 56, 84)
    return reward._judge.embed(pictures).reshape(2, -1, tiny.HIDDEN)


def test_scores_are_those_of_the_transformers_it_was_trained_with(loaded: VideoAlign) -> None:
    ids, mask, expected = (torch.tensor(GOLDEN[name]) for name in ("ids", "mask", "scores"))
    with torch.inference_mode():
        found = loaded._judge.outputs(ids, mask, visual(loaded), "video")
    assert torch.allclose(found[..., 0], expected, atol=5e-5)


def test_positions_for_generating_text_would_give_other_scores(loaded: VideoAlign) -> None:
    """What transformers 5 does of its own accord, so that the golden numbers above prove something."""
    network = loaded._judge.network
    ids, mask, expected = (torch.tensor(GOLDEN[name]) for name in ("ids", "mask", "scores"))
    marks = ids == tiny.VIDEO
    with torch.inference_mode():
        positions, _ = network.get_rope_index(
            ids, mm_token_type_ids=2 * marks.int(), video_grid_thw=torch.tensor([[2, 4, 6]] * 2), attention_mask=mask
        )
        embedded = network.get_input_embeddings()(ids).masked_scatter(marks[..., None], visual(loaded))
        hidden = network.language_model(
            inputs_embeds=embedded, attention_mask=mask, position_ids=positions, use_cache=False
        ).last_hidden_state
        found = loaded._judge.head(torch.stack([hidden[ids == tiny.ROWS + i] for i in range(3)], dim=1))[..., 0]
    assert (found - expected).abs().max() > 100 * 5e-5


def test_patches_are_those_of_its_image_processor() -> None:
    pictures = normalise(tiny.frames(8) / 255, CLIP_MEAN, CLIP_STD).view(4, 2, 3, 56, 84)
    assert torch.allclose(patchify(pictures).flatten(0, 1)[::7, ::97], torch.tensor(GOLDEN["pixels"]), atol=1e-6)


@pytest.mark.parametrize(
    ("frames", "count"), [(1, 2), (2, 2), (3, 2), (4, 4), (9, 4), (12, 4), (57, 8), (81, 10), (117, 14), (1600, 200)]
)
def test_as_many_frames_are_shown_as_in_training(frames: int, count: int) -> None:
    places = trained(frames, 16.0, 2.0)
    assert len(places) == count
    assert (places[0], places[-1]) == (0, frames - 1)
    assert places == sorted(places)


def test_frames_are_where_the_reader_of_the_model_takes_them() -> None:
    assert trained(9, 16.0, 2.0) == [0, 3, 5, 8]
    assert trained(117, 16.0, 2.0) == [0, 9, 18, 27, 36, 45, 54, 62, 71, 80, 89, 98, 107, 116]


def test_the_scores_are_standardised_and_summed(folder: Path, tmp_path: Path) -> None:
    inp = TestContract().make_input()
    config = copy.deepcopy(tiny.MODEL_CONFIG)
    config["inference_config"] = {
        f"{d}_{kind}": float(kind == "std") for d in ("VQ", "MQ", "TA") for kind in ("mean", "std")
    }
    plain = output(load(folder, model=str(tiny.save_videoalign(tmp_path, config=config))), inp)
    found = output(load(folder), inp)
    for name, mean, std in (("VQ", 0.5, 2.0), ("MQ", -0.25, 0.5), ("TA", 1.0, 4.0)):
        assert torch.allclose(found.parts[name], (plain.parts[name] - mean) / std, atol=1e-5)
    assert torch.allclose(found.scores, torch.stack(list(found.parts.values())).sum(0))


# LoRA.


@pytest.mark.parametrize(("rslora", "scale"), [(False, 2.0), (True, 4.0)])
def test_a_merged_checkpoint_scores_as_the_network_it_stands_for(
    folder: Path, tmp_path: Path, rslora: bool, scale: float
) -> None:
    saved, merged = tiny.peft_state(scale)
    config = copy.deepcopy(tiny.MODEL_CONFIG)
    config["peft_lora_config"]["use_rslora"] = rslora
    reward = load(folder, model=str(tiny.save_videoalign(tmp_path, saved, config)))
    found = reward._judge.network.language_model.layers[1].mlp.down_proj.weight
    assert torch.allclose(found, merged["model.layers.1.mlp.down_proj.weight"], atol=1e-6)


def test_lora_is_merged_as_peft_does_it() -> None:
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.ReLU(), torch.nn.Linear(5, 3))
    config = peft.LoraConfig(r=2, lora_alpha=6, target_modules=["0"], modules_to_save=["2"], init_lora_weights=False)
    wrapped = peft.get_peft_model(net, config)
    with torch.no_grad():
        wrapped.base_model.model[2].modules_to_save["default"].weight.add_(1)
    plain = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.ReLU(), torch.nn.Linear(5, 3))
    plain.load_state_dict(merge_lora(wrapped.state_dict(), 3.0))
    x = torch.rand(4, 6)
    assert torch.allclose(plain(x), wrapped(x), atol=1e-6)


def test_half_a_lora_is_refused(folder: Path, tmp_path: Path) -> None:
    saved, _ = tiny.peft_state(2.0)
    saved.pop("base_model.model.model.layers.0.mlp.up_proj.lora_B.default.weight")
    with pytest.raises(PluginError, match=r"LoRA of 'model\.layers\.0\.mlp\.up_proj' is incomplete"):
        load(folder, model=str(tiny.save_videoalign(tmp_path, saved)))


# The sliding window.


def window(chunks: list[tuple[str, int]], seed: int = 0) -> RewardInput:
    """One candidate; the pixels of a chunk depend on its name alone."""
    pieces = [
        torch.rand(count, 3, 56, 84, generator=torch.Generator().manual_seed(seed + sum(map(ord, name))))
        for name, count in chunks
    ]
    ids = tuple((name, frame) for name, count in chunks for frame in range(count))
    video = torch.cat(pieces)[None]
    return RewardInput(video, ("a cat",), 16.0, 3, 7, slice(len(ids) - chunks[-1][1], len(ids)), None, (ids,))


def count_seen(reward: VideoAlign, inp: RewardInput, monkeypatch: pytest.MonkeyPatch) -> int:
    seen = []
    with monkeypatch.context() as patch:
        see = reward._judge.embed
        patch.setattr(reward._judge, "embed", lambda pairs: seen.append(len(pairs)) or see(pairs))
        output(reward, inp)
    return sum(seen)


def test_anchored_sampling_sees_only_the_new_chunk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reward = load(folder, sampling="anchored")
    chunks = [(f"{i:03d}.00", 16) for i in range(5)]
    assert count_seen(reward, window(chunks[:4]), monkeypatch) == 4
    assert count_seen(reward, window(chunks[1:]), monkeypatch) == 1
    assert count_seen(reward, window(chunks[1:]), monkeypatch) == 0


def test_what_was_seen_is_forgotten_with_the_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reward = load(folder)
    inp = window([("000.00", 9)])
    assert [count_seen(reward, inp, monkeypatch) for _ in range(2)] == [2, 0]
    reward.reset()
    assert count_seen(reward, inp, monkeypatch) == 2


def test_nothing_is_remembered_without_memory_or_frame_names(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inp = window([("000.00", 9)])
    for reward, shown in ((load(folder, cache_mb=0), inp), (load(folder), replace(inp, frame_ids=()))):
        assert [count_seen(reward, shown, monkeypatch) for _ in range(2)] == [2, 2]


def test_remembering_changes_no_bit(folder: Path) -> None:
    chunks = [(f"{i:03d}.00", 12) for i in range(4)]
    for sampling in ("paper", "anchored"):
        reward = load(folder, sampling=sampling)
        output(reward, window(chunks[:3]))
        warm = output(reward, window(chunks)).scores
        assert torch.equal(warm, output(load(folder, sampling=sampling, cache_mb=0), window(chunks)).scores)


def test_anchored_places_do_not_depend_on_the_window() -> None:
    assert anchored([9, 12], 16.0, 2.0) == [0, 8, 9, 20]
    assert anchored([32], 16.0, 2.0) == [0, 10, 21, 31]
    assert chunk_lengths(replace(window([("a", 9), ("b", 12), ("c", 12)]))) == [9, 12, 12]
    assert chunk_lengths(replace(window([("a", 9), ("b", 12), ("c", 12)]), frame_ids=())) == [9, 12, 12]


# Prompts, wording, checkpoints.


@pytest.mark.parametrize("word", ["<|VQ_reward|>", "<|video_pad|>", "<|im_end|>"])
def test_special_tokens_in_a_prompt_are_only_text(loaded: VideoAlign, word: str) -> None:
    inp = replace(window([("000.00", 4)]), prompts=(f"a cat {word} wow",))
    assert output(loaded, inp).scores.isfinite().all()


def test_it_says_where_the_wording_is_to_be_had(folder: Path, tmp_path: Path) -> None:
    for file in (None, tmp_path / "absent.py"):
        with pytest.raises(PluginError, match=r"Download prompt_template\.py from https://github\.com"):
            make(folder, template_file=file).load("cpu")


def broken(folder: Path, tmp_path: Path, change: Any) -> VideoAlign:
    saved, _ = tiny.peft_state(2.0)
    change(saved)
    return make(folder, model=str(tiny.save_videoalign(tmp_path / "model", saved)))


HEAD = "base_model.model.rm_head.weight"
BROKEN = {
    "missing": (lambda s: s.pop("base_model.model.model.norm.weight"), "lacks .*norm"),
    "extra": (lambda s: s.update({"base_model.model.surprise": torch.zeros(1)}), "has unknown surprise"),
    "nan": (lambda s: s["base_model.model.visual.merger.mlp.0.bias"][:1].fill_(math.nan), "NaN .*merger"),
    "head": (lambda s: s.pop(HEAD), "rm_head.* lacks weight"),
    "head shape": (lambda s: s.update({HEAD: torch.zeros(3, tiny.HIDDEN)}), "wrong shape"),
    "rows": (
        lambda s: s.update({"base_model.model.model.embed_tokens.weight": torch.zeros(300, tiny.HIDDEN)}),
        r"trained with \[297, 298, 299\]",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_another_checkpoint_is_refused_and_says_why(folder: Path, tmp_path: Path, name: str) -> None:
    change, problem = BROKEN[name]
    with pytest.raises(PluginError, match=problem):
        broken(folder, tmp_path, change).load("cpu")


def test_pickled_objects_are_not_run(folder: Path, tmp_path: Path) -> None:
    tiny.save_videoalign(tmp_path)
    torch.save({"x": Path("object")}, tmp_path / "checkpoint-11352" / "model.pth")
    with pytest.raises(PluginError, match=r"holds more than tensors and plain containers .*could run its code"):
        load(folder, model=str(tmp_path))


@pytest.mark.parametrize(
    ("section", "key", "value", "problem"),
    [
        ("data_config", "prompt_template_type", "simple", "prompt_template_type is 'simple'"),
        ("data_config", "eval_dim", ["VQ"], "eval_dim"),
        ("data_config", "sample_type", "multi_pts", "sample_type"),
        ("data_config", "fps", 0, "fps"),
        ("model_config", "reward_token", "last", "reward_token"),
        ("inference_config", "VQ_std", 0.0, "must be above 0"),
        ("inference_config", "VQ_std", None, "VQ_std"),
    ],
)
def test_another_configuration_is_refused(
    folder: Path, tmp_path: Path, section: str, key: str, value: Any, problem: str
) -> None:
    config = copy.deepcopy(tiny.MODEL_CONFIG)
    config[section][key] = value
    with pytest.raises(PluginError, match=problem):
        load(folder, model=str(tiny.save_videoalign(tmp_path, config=config)))


def test_a_configuration_without_norms_is_refused(folder: Path, tmp_path: Path) -> None:
    config = {**tiny.MODEL_CONFIG, "inference_config": {"VQ_mean": 1.0}}
    with pytest.raises(PluginError, match="VQ_std"):
        load(folder, model=str(tiny.save_videoalign(tmp_path, config=config)))


def test_another_checkpoint_folder_can_be_named(folder: Path) -> None:
    with pytest.raises(PluginError, match=r"checkpoint-7/model\.pth"):
        load(folder, checkpoint="checkpoint-7")


def test_score_before_load_says_so(folder: Path) -> None:
    with pytest.raises(PluginError, match="not loaded"):
        output(make(folder), window([("000.00", 4)]))


def test_options_are_checked() -> None:
    entry = discovery().rewards["videoalign"]
    for options in ({"sampling": "random"}, {"cache_mb": -1}, {"fps": 3}):
        with pytest.raises(RecipeError):
            build.instance(entry, options, "rewards.long.videoalign")


def test_a_search_runs_on_it(folder: Path) -> None:
    """Through the core, which watches inputs and random state."""
    options = {
        "model": str(folder / "model"), "base": str(folder / "base"),
        "template_file": str(folder / "prompt_template.py"),
    }  # fmt: skip
    rewards = {"short": {}, "long": {"videoalign": {"options": options, "on_error": "raise"}}}
    pipe = streamt1.wrap(ToyPipeline(), {"extends": "stream-t1", "rewards": rewards})
    pipe("a cat <|VQ_reward|>")
    raws = [node.readings["long"]["videoalign"].raw for node in pipe.tree]
    assert all(math.isfinite(raw) for raw in raws)
    assert len(set(raws)) > len(raws) // 2
