"""Which tokens of prompts a step is to report on, where requests ask for log probabilities of their prompts."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from infergc.sched.plan import I32, Binding, StepPlan


class PromptSpan(NamedTuple):
    """Neighbouring prompt tokens of a row whose log probabilities the step tells.

    Attributes:
        row: of the plan.
        first: where among the step's tokens the one before them stands.
        position: of that one in its text.
        tokens: [N] the tokens; each is foretold by the one before it.
        likeliest: tokens to report beside each.
    """

    row: int
    first: int
    position: int
    tokens: I32
    likeliest: int


class PromptSpans:
    """Prompts that are to be told of, by slot. An executor binds slots as plans say, and asks for each plan's spans.

    A prompt's last token is told of with the step that computes the one before it, wherever chunks end: all of a prompt
    is known.
    """

    def __init__(self) -> None:
        self._asked: dict[int, Binding] = {}

    def bind(self, binding: Binding) -> None:
        """A slot has a new request. Cost: O(1)."""
        self._asked.pop(binding.slot, None)
        if binding.params.prompt_logprobs is not None and binding.told < len(binding.prompt) - 1:
            self._asked[binding.slot] = binding

    def of(self, plan: StepPlan) -> list[PromptSpan]:
        """What a step is to report. Cost: O(1) while no prompt is to be told of, else O(rows)."""
        return list(self._spans(plan)) if self._asked else []

    def _spans(self, plan: StepPlan) -> Iterator[PromptSpan]:
        begins = np.cumsum(plan.counts) - plan.counts
        for row, slot in enumerate(plan.slots.tolist()):
            binding = self._asked.get(slot)
            if binding is None or binding.params.prompt_logprobs is None:
                continue
            start, last = int(plan.starts[row]), len(binding.prompt) - 1
            low, high = max(start, binding.told), min(start + int(plan.counts[row]), last)
            if high == last:
                del self._asked[slot]
            if low < high:
                first = int(begins[row]) + low - start
                yield PromptSpan(row, first, low, binding.prompt[low + 1 : high + 1], binding.params.prompt_logprobs)
