"""The settings of a VideoAlign checkpoint, from its `model_config.json`."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from streamt1_plugins.errors import PluginError

if TYPE_CHECKING:
    from pathlib import Path

DIMENSIONS = ("VQ", "MQ", "TA")
EXPECTED = {
    ("data_config", "prompt_template_type"): "detailed_special",
    ("data_config", "eval_dim"): list(DIMENSIONS),
    ("data_config", "sample_type"): "uniform",
    ("data_config", "num_frames"): None,
    ("model_config", "reward_token"): "special",
    ("model_config", "use_special_tokens"): True,
    ("model_config", "output_dim"): 1,
}


class _Data(BaseModel):
    fps: float = Field(gt=0)
    max_frame_pixels: int = Field(gt=0)


class _Lora(BaseModel):
    lora_r: int = Field(gt=0)
    lora_alpha: float
    use_rslora: bool = False


class Settings(BaseModel):
    """The entries of `model_config.json` that scoring needs."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=())

    data_config: _Data
    peft_lora_config: _Lora
    inference_config: dict[str, float]

    @property
    def lora_scale(self) -> float:
        lora = self.peft_lora_config
        return lora.lora_alpha / (math.sqrt(lora.lora_r) if lora.use_rslora else lora.lora_r)

    @property
    def norms(self) -> list[tuple[float, float]]:
        """Mean and standard deviation of each dimension over the training data."""
        found = self.inference_config
        return [(found[f"{name}_mean"], found[f"{name}_std"]) for name in DIMENSIONS]


def read_settings(path: Path) -> Settings:
    """Settings from `model_config.json`. Raises `PluginError` for a checkpoint with unsupported settings."""
    try:
        raw: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        settings = Settings.model_validate(raw)
        spreads = [std for _, std in settings.norms]
    except (ValueError, ValidationError, KeyError) as error:
        raise PluginError(f"{path} is not the configuration of a VideoAlign checkpoint: {error}") from error
    for (section, key), value in EXPECTED.items():
        if raw.get(section, {}).get(key, value) != value:
            raise PluginError(f"{path}: {section}.{key} is {raw[section][key]!r}; reward 'videoalign' needs {value!r}.")
    if not all(std > 0 for std in spreads):
        raise PluginError(f"{path}: standard deviations in inference_config must be above 0.")
    return settings
