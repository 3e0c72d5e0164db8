"""What a call takes and gives: arguments are checked and matter, the output is in the caller's type."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from streamt1_plugins.api.adapter import MemoryPlan
from streamt1_plugins.errors import InputError, UnsupportedPipelineError
from streamt1_plugins.testing.adapter_case import AdapterCase, check_same, grown, seeded


class AdapterArguments(AdapterCase):
    """The part of the contract about a call's arguments and output, once per adapter."""

    def test_declares_itself(self) -> None:
        generator = seeded(5)
        with self.session(generator=generator) as session:
            assert session.generator is generator, "`generator` has to be the call's own, the same object"
            assert session.num_chunks - session.root().index >= 3, "give a call that makes 3 chunks or more"
            assert session.fps > 0
            assert session.prompt == (self.call().get("prompt") or "")
            assert session.capabilities.max_batch is None or session.capabilities.max_batch >= 1
            before = session.forwards
            grown(session, session.root(), 0)
            assert session.forwards > before, "`forwards` has to count the transformer's passes"

    def test_output_is_of_the_pipelines_type(self) -> None:
        assert isinstance(self.video(return_dict=False), tuple)
        assert type(self.video()) is type(self.plain())

    @pytest.mark.parametrize("output_type", ["pt", "pil"])
    def test_other_output_types_are_the_plain_pipelines(self, output_type: str) -> None:
        self.check_plain(output_type)

    def test_negative_prompts_matter_with_guidance(self) -> None:
        if self.guidance is None:
            pytest.skip("the pipeline takes no negative prompt")
        call = {"output_type": "latent", "return_dict": False, **self.guidance}
        blue, other = (self.video(negative_prompt=text, **call)[0] for text in ("blue", "a large dog"))
        assert not torch.equal(blue, other), "negative prompts change nothing"
        check_same(blue, self.plain(negative_prompt="blue", **call)[0])

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"promt": "a dog"}, "'prompt'"),
            ({"prompt": ..., "prompt_embeds": ...}, "prompt"),
            ({"prompt": ["a", "b"], "prompt_embeds": ...}, "prompt"),
            ({"num_videos_per_prompt": 2}, "num_videos_per_prompt"),
            ({"output_type": "gif"}, "output_type"),
        ],
        ids=["unknown argument", "no prompt", "two prompts", "two videos", "unknown output type"],
    )
    def test_unusable_arguments_are_named(self, changes: dict[str, Any], message: str) -> None:
        with pytest.raises(InputError, match=message), self.session(**changes):
            pass

    def test_other_pipelines_are_refused(self) -> None:
        with pytest.raises(UnsupportedPipelineError, match="object"):
            self.make_adapter().open(object(), self.arguments({}), MemoryPlan())
