"""From a user's prompt and parameters to a ``Submit`` that the engine cannot find fault with."""

import random
from collections.abc import Iterable
from dataclasses import replace
from itertools import count

from infergc.engine.messages import Ready, Submit
from infergc.params import MAX_SEED, ParameterError, SamplingParams

CONTEXT_LENGTH = "context_length_exceeded"
INVALID_VALUE = "invalid_value"


class PromptError(ParameterError):
    """A prompt that the model cannot take; ``code`` is the OpenAI API's word for the reason."""

    def __init__(self, message: str, code: str = INVALID_VALUE) -> None:
        super().__init__("prompt", message)
        self.code = code


class RequestBuilder:
    """Builds requests for one engine: checks ids and lengths, names the request, draws a seed where none is given.

    Seeds are drawn from the engine's own seed in the order of requests, so a program that submits the same
    requests in the same order gets the same tokens.
    """

    def __init__(self, ready: Ready, seed: int) -> None:
        self._ready = ready
        self._seeds = random.Random(seed)  # noqa: S311 - a sampler's seed, not a secret
        self._numbers = count(1)

    def build(
        self,
        prompt_ids: Iterable[int],
        params: SamplingParams,
        request_id: str | None = None,
        *,
        priority: int = 0,
        salt: str = "",
    ) -> Submit:
        """One checked request; ``request_id`` must be unique among the open ones and is numbered if None.

        Raises:
            PromptError: the prompt is empty, too long, or holds ids that the model does not have.
            ParameterError: stop_token_ids or logit_bias name such ids.
        """
        prompt = list(prompt_ids)
        self._check_prompt(prompt)
        self._check_ids("stop_token_ids", params.stop_token_ids)
        self._check_ids("logit_bias", params.logit_bias)
        if params.seed is None:
            params = replace(params, seed=self._seeds.randint(0, MAX_SEED))
        number = next(self._numbers)
        return Submit(request_id or f"request-{number}", prompt, params, priority, salt)

    def _check_prompt(self, prompt: list[int]) -> None:
        limit = self._ready.max_model_len
        if not prompt:
            raise PromptError("holds no token; give at least one")
        if len(prompt) >= limit:
            raise PromptError(
                f"is {len(prompt)} tokens long; the context is {limit} tokens and one is needed for the "
                f"output, so at most {limit - 1} are allowed",
                CONTEXT_LENGTH,
            )
        self._check_ids("prompt", prompt)

    def _check_ids(self, name: str, ids: Iterable[int]) -> None:
        vocabulary = self._ready.vocab_size
        for token in ids:
            if not isinstance(token, int) or not 0 <= token < vocabulary:
                message = f"{token!r} is not a token id of this model; ids are 0 to {vocabulary - 1}"
                raise PromptError(message) if name == "prompt" else ParameterError(name, message)
