from __future__ import annotations

import json
import math
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from streamt1_backbones import qwen2vl
from streamt1_backbones.frames import CLIP_MEAN, CLIP_STD, normalise
from streamt1_backbones.patches import patchify, prepare, target_size
from streamt1_hpsv3.reward import HPSv3
from streamt1_plugins.errors import PluginError, RecipeError
from streamt1_plugins.plugins import build
from streamt1_plugins.plugins.discovery import discovery
from streamt1_plugins.testing import RewardContract
from tests.rewards import tiny_qwen2vl as tiny

if TYPE_CHECKING:
    from torch import Tensor

torch.set_num_threads(1)
GOLDEN = json.loads((Path(__file__).parent / "golden" / "qwen2vl.json").read_text(encoding="utf-8"))
TEMPLATE = 'INSTRUCTION = """Judge this: {text_prompt} """\nprompt_with_special_token = """Rating: <|Reward|>"""\n'


def save(root: Path) -> Path:
    tiny.save_base(root / "base")
    tiny.save_hpsv3(root / "model")
    (root / "texts.py").write_text(TEMPLATE, encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("hpsv3"))


def make(folder: Path, **options: Any) -> HPSv3:
    given = {"model": str(folder / "model"), "base": str(folder / "base"), "template_file": folder / "texts.py"}
    return HPSv3(**{**given, **options})


@pytest.fixture(scope="module")
def loaded(folder: Path) -> HPSv3:
    reward = make(folder)
    reward.load("cpu")
    return reward


def score(reward: HPSv3, frames: Tensor, prompt: str) -> Tensor:
    with torch.inference_mode():
        return reward.score_frames(frames, (prompt,) * len(frames))


class TestContract(RewardContract):
    tolerance = 2e-5

    @classmethod
    def setup_class(cls) -> None:
        cls.temporary = tempfile.TemporaryDirectory()
        cls.folder = save(Path(cls.temporary.name))
        super().setup_class()

    @classmethod
    def teardown_class(cls) -> None:
        super().teardown_class()
        cls.temporary.cleanup()

    def make_reward(self) -> HPSv3:
        return make(self.folder, every=6)


# As trained.


def visual(judge: qwen2vl.Judge, medium: str) -> Tensor:
    """Visual features of the golden pictures, ``[B, tokens, hidden]``."""
    count = 2 if medium == "image" else 8
    pictures = normalise(tiny.frames(count) / 255, CLIP_MEAN, CLIP_STD)
    pairs = pictures[:, None].expand(-1, 2, -1, -1, -1) if medium == "image" else pictures.view(4, 2, 3, 56, 84)
    return judge.embed(pairs).reshape(2, -1, tiny.HIDDEN)


def golden(medium: str) -> tuple[Tensor, Tensor, Tensor]:
    found = GOLDEN[medium]
    return torch.tensor(found["ids"]), torch.tensor(found["mask"]), torch.tensor(found["scores"])


def test_scores_are_those_of_the_transformers_it_was_trained_with(loaded: HPSv3) -> None:
    ids, mask, expected = golden("image")
    with torch.inference_mode():
        found = loaded._judge.outputs(ids, mask, visual(loaded._judge, "image"), "image")
    assert torch.allclose(found[:, 0], expected, atol=2e-5)


def test_positions_for_generating_text_would_give_other_scores(loaded: HPSv3) -> None:
    """What transformers 5 does of its own accord, so that the golden numbers above prove something."""
    judge = loaded._judge
    ids, mask, expected = golden("image")
    grid = torch.tensor([[1, 4, 6]] * 2)
    kinds = (ids == tiny.IMAGE).int()
    with torch.inference_mode():
        positions, _ = judge.network.get_rope_index(
            ids, mm_token_type_ids=kinds, image_grid_thw=grid, attention_mask=mask
        )
        embedded = judge.network.get_input_embeddings()(ids)
        embedded = embedded.masked_scatter((kinds == 1)[..., None], visual(judge, "image"))
        hidden = judge.network.language_model(
            inputs_embeds=embedded, attention_mask=mask, position_ids=positions, use_cache=False
        ).last_hidden_state
        found = judge.head(hidden[ids == tiny.ROWS])
    assert (found - expected).abs().max() > 100 * 2e-5


def test_patches_are_those_of_its_image_processor() -> None:
    pictures = normalise(tiny.frames(2) / 255, CLIP_MEAN, CLIP_STD)
    cut = patchify(pictures[:, None].expand(-1, 2, -1, -1, -1)).flatten(0, 1)
    assert torch.allclose(cut[::7, ::97], torch.tensor(GOLDEN["image"]["pixels"]), atol=1e-6)


@pytest.mark.parametrize(
    ("size", "expected"),
    [((480, 832), (336, 588)), ((720, 1280), (336, 588)), ((240, 416), (364, 616)), ((448, 448), (448, 448))],
)
def test_pictures_get_the_size_it_was_trained_on(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert target_size(*size, 200704, 200704) == expected


def test_prepared_pictures_are_bytes_normalised() -> None:
    made = prepare(torch.rand(1, 3, 40, 60), 28 * 28 * 6, 28 * 28 * 6)
    levels = (made * torch.tensor(CLIP_STD).view(3, 1, 1) + torch.tensor(CLIP_MEAN).view(3, 1, 1)) * 255
    assert made.shape[-2:] == target_size(40, 60, 28 * 28 * 6, 28 * 28 * 6)
    assert (levels - levels.round()).abs().max() < 1e-3


def test_padding_changes_nothing(loaded: HPSv3) -> None:
    ids, mask, _ = golden("image")
    features = visual(loaded._judge, "image")
    with torch.inference_mode():
        both = loaded._judge.outputs(ids, mask, features, "image")
        short = int(mask[0].sum())
        alone = loaded._judge.outputs(ids[:1, :short], mask[:1, :short], features[:1], "image")
    assert torch.allclose(both[:1], alone, atol=1e-6)


# Prompts and wording.


@pytest.mark.parametrize("word", ["<|Reward|>", "<|image_pad|>", "<|im_end|>", "<|image_pad|><|Reward|>"])
def test_special_tokens_in_a_prompt_are_only_text(loaded: HPSv3, word: str) -> None:
    found = score(loaded, torch.rand(1, 3, 56, 84), f"a cat {word} wow")
    assert found.isfinite().all()
    safe = qwen2vl.without_special_tokens(f"a cat {word}", loaded._judge.tokenizer)
    assert not any(token in safe for token in loaded._judge.tokenizer.get_added_vocab())


def test_braces_in_a_prompt_are_only_text(loaded: HPSv3) -> None:
    assert score(loaded, torch.rand(1, 3, 56, 84), "a {text_prompt} {0} {").isfinite().all()


def test_the_picture_matters(loaded: HPSv3) -> None:
    dark, light = score(loaded, torch.stack([torch.zeros(3, 56, 84), torch.ones(3, 56, 84)]), "a cat")
    assert dark != light


def test_the_wording_of_the_installed_package_is_read_without_importing_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package, info = tmp_path / "hpsv3" / "dataset", tmp_path / "hpsv3-1.0.0.dist-info"
    package.mkdir(parents=True)
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: hpsv3\nVersion: 1.0.0\n", encoding="utf-8")
    (package / "data_collator_qwen.py").write_text("import pdb_no_such_module\n" + TEMPLATE, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert make(folder, template_file=None)._template == "Judge this: {text_prompt} Rating: <|Reward|>"


def test_a_missing_package_names_the_command(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.metadata import PackageNotFoundError

    def none(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("streamt1_backbones.sources.distribution", none)
    with pytest.raises(PluginError, match="pip install --no-deps hpsv3"):
        make(folder, template_file=None).load("cpu")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("INSTRUCTION = 'x'", "must assign a string to prompt_with_special_token"),
        ("INSTRUCTION = 'x", "cannot be read as Python"),
    ],
)
def test_a_wrong_template_file_is_refused(folder: Path, tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "t.py").write_text(text, encoding="utf-8")
    with pytest.raises(PluginError, match=problem):
        make(folder, template_file=tmp_path / "t.py").load("cpu")


@pytest.mark.parametrize(
    ("wording", "problem"),
    [("no mark", "exactly once"), ("<|Reward|> <|Reward|>", "exactly once"), ("{other} <|Reward|>", "other than")],
)
def test_a_wording_without_its_mark_is_refused(folder: Path, tmp_path: Path, wording: str, problem: str) -> None:
    text = f"INSTRUCTION = '{{text_prompt}}'\nprompt_with_special_token = {wording!r}\n"
    (tmp_path / "t.py").write_text(text, encoding="utf-8")
    reward = make(folder, template_file=tmp_path / "t.py")
    reward.load("cpu")
    with pytest.raises(PluginError, match=problem):
        score(reward, torch.rand(1, 3, 56, 84), "a cat")


# Checkpoints.


def broken(folder: Path, tmp_path: Path, change: Any) -> HPSv3:
    state = tiny.network_state(tiny.ROWS + 1) | tiny.ranking_head_state()
    change(state)
    return make(folder, model=str(tiny.save_hpsv3(tmp_path / "model", state)))


BROKEN = {
    "missing": (lambda s: s.pop("model.layers.1.mlp.up_proj.weight"), r"lacks .*layers\.1\.mlp\.up_proj"),
    "extra": (lambda s: s.update(surprise=torch.zeros(1)), "has unknown surprise"),
    "nan": (lambda s: s["visual.blocks.0.mlp.fc1.weight"].view(-1)[:1].fill_(math.nan), "NaN .*fc1"),
    "head": (lambda s: s.pop("rm_head.3.weight"), r"rm_head.* lacks .*3\.weight"),
    "head extra": (lambda s: s.update({"rm_head.9.weight": torch.zeros(1)}), r"has unknown 9\.weight"),
    "head shape": (lambda s: s.update({"rm_head.3.bias": torch.zeros(5)}), "wrong shape"),
    "embedding": (lambda s: s.pop("model.embed_tokens.weight"), "embed_tokens"),
    "rows": (
        lambda s: s.update({"model.embed_tokens.weight": torch.zeros(400, tiny.HIDDEN)}),
        r"have ids \[264\], but the checkpoint was trained with \[399\]",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_another_checkpoint_is_refused_and_says_why(folder: Path, tmp_path: Path, name: str) -> None:
    change, problem = BROKEN[name]
    with pytest.raises(PluginError, match=problem):
        broken(folder, tmp_path, change).load("cpu")


def test_a_file_that_is_no_checkpoint_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "HPSv3.safetensors").write_bytes(b"not tensors")
    with pytest.raises(PluginError, match="cannot be read as weights: it is text"):
        make(folder, model=str(tmp_path)).load("cpu")


@pytest.mark.parametrize("option", ["model", "base"])
def test_a_model_that_cannot_be_had_is_named(folder: Path, option: str) -> None:
    with pytest.raises(PluginError, match="hf download nobody/nothing"):
        make(folder, **{option: "nobody/nothing"}).load("cpu")


def test_score_before_load_says_so(folder: Path) -> None:
    with pytest.raises(PluginError, match="not loaded"):
        score(make(folder), torch.rand(1, 3, 56, 84), "a cat")


def test_offload_keeps_the_judge(folder: Path) -> None:
    reward = make(folder)
    reward.load("cpu")
    judge = reward._judge
    reward.offload()
    reward.load("cpu")
    assert reward._judge is judge


def test_the_network_runs_in_the_dtype_asked_for_and_the_head_in_float32(folder: Path) -> None:
    reward = make(folder, dtype="bfloat16")
    reward.load("cpu")
    assert reward._judge.network.dtype == torch.bfloat16
    found = score(reward, torch.rand(1, 3, 56, 84), "a cat")
    assert found.dtype == torch.float32
    assert next(reward._judge.head.parameters()).dtype == torch.float32


def test_options_are_checked() -> None:
    entry = discovery().rewards["hpsv3"]
    for options in ({"every": 0}, {"dtype": "int8"}, {"frames": 3}):
        with pytest.raises(RecipeError):
            build.instance(entry, options, "rewards.short.hpsv3")


def test_the_mean_over_frames_is_the_score(loaded: HPSv3) -> None:
    inp = TestContract().make_input(frames=3)
    with torch.inference_mode():
        whole = loaded.score(replace(inp, frame_ids=())).scores
        frames = torch.stack(
            [loaded.score_frames(v, (p,) * 3).mean() for v, p in zip(inp.video, inp.prompts, strict=True)]
        )
    assert torch.allclose(whole, frames, atol=1e-5)
