"""transformers' own ways to generate, on the same weights and the same device: by batch, and batching continuously."""

from pathlib import Path
from typing import Any

import torch
import transformers

_CONTINUOUS_SHARE = 0.5  # of the memory that is free then


def load(model: Path, device: str) -> Any:
    """The model, from the directory that the engine reads."""
    transformers.utils.logging.set_verbosity_error()
    loaded = transformers.AutoModelForCausalLM.from_pretrained(model, dtype="auto", attn_implementation="sdpa")
    loaded.generation_config = transformers.GenerationConfig(pad_token_id=0)  # no text ends before its time
    return loaded.to(device).eval()


class Generate:
    """``generate`` on one batch; all prompts are equally long, so nothing is padded.

    Args:
        model: as loaded.
        cache: ``dynamic``, or ``static``, with which it compiles its steps on a GPU.
    """

    def __init__(self, model: Any, cache: str) -> None:
        self.name = f"transformers generate, {cache} cache"
        self._model, self._cache = model, None if cache == "dynamic" else cache

    @torch.inference_mode()
    def generate(self, prompts: list[list[int]], count: int) -> list[list[int]]:
        """Greedy outputs of ``count`` tokens each."""
        ids = torch.tensor(prompts, device=self._model.device)
        how = transformers.GenerationConfig(
            max_new_tokens=count, do_sample=False, pad_token_id=0, cache_implementation=self._cache
        )
        output = self._model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=how)
        return output[:, ids.shape[1] :].tolist()

    def forget(self) -> None:
        """Nothing is kept for one load alone."""


class Continuous:
    """``generate_batch``: continuous batching over pages, its manager kept from round to round."""

    name = "transformers continuous batching"

    def __init__(self, model: Any) -> None:
        self._model = model

    def generate(self, prompts: list[list[int]], count: int) -> list[list[int]]:
        """Greedy outputs of ``count`` tokens each.

        Raises:
            RuntimeError: a request failed.
        """
        told = self._model.generate_batch(
            prompts,
            generation_config=transformers.GenerationConfig(
                max_new_tokens=count, do_sample=False, eos_token_id=-1, pad_token_id=0
            ),
            continuous_batching_config=transformers.ContinuousBatchingConfig(max_memory_percent=_CONTINUOUS_SHARE),
            progress_bar=False,
            persistent_manager=True,
        )
        failed = [each.error for each in told.values() if each.error]
        if failed or len(told) != len(prompts):
            raise RuntimeError(failed[0] if failed else f"{len(told)} of {len(prompts)} requests were answered")
        return [list(each.generated_tokens) for each in told.values()]

    def forget(self) -> None:
        """Free its pages: they were made for this load's sizes."""
        self._model.destroy_cached_continuous_batching_manager()
