"""transformers' own ways to generate, on the same weights and the same device: by batch, and batching continuously."""

from contextlib import AbstractContextManager, ExitStack
from copy import deepcopy
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import transformers

_CONTINUOUS_SHARE = {"cuda": 0.5, "cpu": 0.02}  # of the memory that is free then


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
        self.name = f"transformers {cache}"
        self._model, self._cache = model, None if cache == "dynamic" else cache

    @property
    def words(self) -> str:
        """What it computes attention by."""
        return _attention(self._model)

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
    """Continuous batching over pages, as ``generate_batch`` does it; its manager runs until the load is forgotten.

    Args:
        model: as loaded; a copy with the same parameters is used, for its kind of attention is changed.
    """

    name = "transformers continuous"

    def __init__(self, model: Any) -> None:
        self._model = deepcopy(model, {id(each): each for each in model.parameters()})
        self._manager: Any = None
        self._until_forgotten = ExitStack()

    @property
    def words(self) -> str:
        """What it computes attention by, as long as its manager runs."""
        return _attention(self._model)

    def generate(self, prompts: list[list[int]], count: int) -> list[list[int]]:
        """Greedy outputs of ``count`` tokens each.

        Raises:
            RuntimeError: a request failed.
        """
        if self._manager is None:
            self._manager = self._until_forgotten.enter_context(self._running(count))
        names = self._manager.add_requests(prompts, max_new_tokens=count)
        done: dict[str, list[int]] = {}
        while len(done) < len(names):
            told = self._manager.get_result(timeout=1)
            if told is None and not self._manager.is_running():
                raise RuntimeError("its thread has ended")
            if told is not None and told.error:
                raise RuntimeError(told.error)
            if told is not None and told.is_finished():
                done[told.request_id] = list(told.generated_tokens)
        return [done[name] for name in names]

    def forget(self) -> None:
        """Free its pages."""
        self._manager = None
        self._until_forgotten.close()

    def _running(self, count: int) -> AbstractContextManager[Any]:
        share = _CONTINUOUS_SHARE[self._model.device.type]
        return self._model.continuous_batching_context_manager(
            generation_config=transformers.GenerationConfig(
                max_new_tokens=count, do_sample=False, eos_token_id=-1, pad_token_id=0
            ),
            continuous_batching_config=transformers.ContinuousBatchingConfig(max_memory_percent=share, **_flash()),
            timeout=5,
        )


def _attention(model: Any) -> str:
    return f"attention {model.config._attn_implementation}"  # noqa: SLF001 - it has no other name


def _flash() -> dict[str, bool]:
    """Flash attention where its package is installed: by itself transformers would look for kernels on a hub, too."""
    if "auto_switch_to_flash" not in {each.name for each in fields(transformers.ContinuousBatchingConfig)}:
        return {}
    return {"auto_switch_to_flash": any(map(find_spec, ("flash_attn", "flash_attn_interface")))}
