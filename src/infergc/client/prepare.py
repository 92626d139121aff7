"""From a user's prompt and parameters to a ``Submit`` that the engine cannot find fault with."""

import random
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import count
from typing import Any

from infergc.cache_control import CacheControl, as_cache_control
from infergc.engine.branching import check_branching
from infergc.engine.messages import Ready, Submit
from infergc.params import MAX_QUEUE_TIMEOUT, MAX_SEED, ParameterError, SamplingParams, check_text, check_token_ids
from infergc.structured_outputs import FIELD, StructuredOutputs
from infergc.text.grammar import GrammarCheck
from infergc.wording import shown

CONTEXT_LENGTH = "context_length_exceeded"
INVALID_VALUE = "invalid_value"
MAX_LABEL = 1024  # characters of a request id and of a cache salt
MAX_PRIORITY = 2**31 - 1  # and as far below zero, and one more


class PromptError(ParameterError):
    """A prompt that the model cannot take, or not with so many tokens to follow.

    ``code`` is the OpenAI API's word for the reason.
    """

    def __init__(self, message: str, code: str = INVALID_VALUE, field: str = "prompt") -> None:
        super().__init__(field, message)
        self.code = code


class RequestBuilder:
    """Builds requests for one engine: checks ids and lengths, names the request, draws a seed where none is given.

    Seeds are drawn from the engine's own seed in the order of requests, so a program that submits the same
    requests in the same order gets the same tokens.

    Attributes:
        ready: of the engine. Where another takes its place, numbers and seeds go on.
    """

    def __init__(self, ready: Ready, seed: int) -> None:
        self.ready = ready
        self._seeds = random.Random(seed)  # noqa: S311 - a sampler's seed, not a secret
        self._numbers = count(1)
        self._grammars = GrammarCheck(ready.vocab_size)

    def build(
        self,
        prompt_ids: Iterable[int],
        params: SamplingParams,
        request_id: str | None = None,
        *,
        priority: int = 0,
        cache_salt: str = "",
        session: str = "",
        cache_control: CacheControl | Mapping[str, Any] | None = None,
        queue_timeout: int | None = None,
        public_tokens: int = 0,
        is_grammar_checked: bool = False,
    ) -> Submit:
        """One checked request; ``request_id`` must be unique among the open ones and is numbered if None.

        Args:
            prompt_ids: token ids.
            params: what to generate.
            request_id: at most 1024 characters.
            priority: smaller runs first under the priority policy; a signed number of 32 bits.
            cache_salt: names the prefix cache that the request shares; at most 1024 characters.
            session: the conversation that it is a turn of, whose KV is kept for the next; at most 1024 characters.
            cache_control: how the prompt's pages are to be kept.
            queue_timeout: seconds, 1 to 86400, after which it ends with "timeout" unless it was started; None: never.
            public_tokens: leading tokens of the prompt whose whole pages are shared whatever the salt.
            is_grammar_checked: somebody has seen to it that what the text is to keep to is a grammar; else it is
                looked at here, and nothing bounds how long that takes.

        Raises:
            PromptError: the prompt is empty, too long, or holds ids that the model does not have; or max_tokens
                is more than the context has room for after it.
            ParameterError: stop_token_ids or logit_bias name such ids, another argument is out of its bounds,
                there are more choices or hypotheses than the engine has slots or memory for, or what the text is to
                keep to is no grammar.
        """
        check_label("request_id", request_id or "")
        check_label("cache_salt", cache_salt)
        check_label("session_id", session)
        _check_priority(priority)
        _check_queue_timeout(queue_timeout)
        prompt = list(prompt_ids)
        self._check_prompt(prompt)
        self._check_room(len(prompt), params.max_tokens)
        check_token_ids(params, self.ready.vocab_size)
        check_branching(params, len(prompt), self.ready)
        if params.structured_outputs is not None:
            self._check_structured(params.structured_outputs, is_checked=is_grammar_checked)
        if params.seed is None:
            params = replace(params, seed=self._seeds.randint(0, MAX_SEED))
        number = next(self._numbers)
        name, control = request_id or f"request-{number}", as_cache_control(cache_control)
        return Submit(name, prompt, params, priority, cache_salt, session, control, queue_timeout, public_tokens)

    def check_length(self, tokens: int, measure: str = "is") -> None:
        """Refuse a prompt of more tokens than the context has room for; ``measure`` may be "is at least".

        Raises:
            PromptError: it is too long.
        """
        limit = self.ready.max_model_len
        if tokens >= limit:
            raise PromptError(
                f"{measure} {tokens} tokens long; this model's maximum context length is {limit} tokens "
                f"and one is needed for the output, so at most {limit - 1} are allowed",
                CONTEXT_LENGTH,
            )

    def _check_structured(self, outputs: StructuredOutputs, *, is_checked: bool) -> None:
        if not self.ready.eos_ids:
            raise ParameterError(FIELD, "is only allowed with a model that has an end token")
        if not is_checked:
            self._grammars.check(outputs)

    def _check_prompt(self, prompt: list[int]) -> None:
        if not prompt:
            raise PromptError("holds no token; give at least one")
        self.check_length(len(prompt))
        vocabulary = self.ready.vocab_size
        for token in prompt:
            if type(token) is not int or not 0 <= token < vocabulary:
                raise PromptError(f"{shown(token)} is not a token id of this model; ids are 0 to {vocabulary - 1}")

    def _check_room(self, prompt: int, wanted: int | None) -> None:
        limit = self.ready.max_model_len
        if wanted is not None and prompt + wanted > limit:
            raise PromptError(
                f"{wanted} is too many; this model's maximum context length is {limit} tokens, so after this "
                f"prompt of {prompt} at most {limit - prompt} are allowed",
                CONTEXT_LENGTH,
                "max_tokens",
            )


def _check_queue_timeout(seconds: object) -> None:
    if seconds is not None and (type(seconds) is not int or not 1 <= seconds <= MAX_QUEUE_TIMEOUT):
        message = f"{shown(seconds)} is not allowed; it must be a whole number of seconds from 1 to {MAX_QUEUE_TIMEOUT}"
        raise ParameterError("queue_timeout", message)


def check_label(name: str, label: object) -> None:
    """Refuse what is no text that can be sent, of at most ``MAX_LABEL`` characters.

    Raises:
        ParameterError: naming the field.
    """
    if not isinstance(label, str):
        raise ParameterError(name, f"{shown(label)} is not a text")
    if len(label) > MAX_LABEL:
        raise ParameterError(name, f"is {len(label)} characters long; at most {MAX_LABEL} are allowed")
    check_text(name, label)


def _check_priority(priority: object) -> None:
    low = -MAX_PRIORITY - 1
    if type(priority) is not int or not low <= priority <= MAX_PRIORITY:
        message = f"{shown(priority)} is not allowed; it must be an integer from {low} to {MAX_PRIORITY}"
        raise ParameterError("priority", message)
