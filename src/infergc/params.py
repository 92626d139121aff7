"""Sampling parameters: what one request asks of the sampler and of the finish rules."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from infergc.field_errors import ParameterError, check_text
from infergc.structured_outputs import FIELD, StructuredOutputs, as_structured_outputs
from infergc.wording import shown

__all__ = [
    "MAX_CHOICES",
    "MAX_COUNT",
    "MAX_LOGPROBS",
    "MAX_QUEUE_TIMEOUT",
    "MAX_SEED",
    "ParameterError",
    "SamplingParams",
    "StructuredOutputs",
    "check_number",
    "check_text",
    "check_token_ids",
]

MAX_LOGPROBS = 20
MAX_STOPS = 16
MAX_STOP_LENGTH = 1024  # characters
MAX_IDS = 1024  # in stop_token_ids, and in logit_bias
MAX_QUEUE_TIMEOUT = 86_400  # seconds: a day
MAX_SEED = 2**63 - 1
MAX_COUNT = 2**31 - 1  # of tokens, and the largest token id
MAX_CHOICES = 4096  # of a request, and hypotheses of a beam search; an engine may run fewer
MAX_LENGTH_PENALTY = 5.0  # the longest text to this power stays finite in float32
MAX_REPETITION_PENALTY = 100.0  # what it makes of a logit stays finite in float32


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How to choose tokens and when to stop; names and defaults as in vLLM's class of this name.

    Attributes:
        max_tokens: most tokens to generate, ≥ 1; None means up to the model's context.
        min_tokens: no end token, stop id or stop string may end the text before this many, ≥ 0.
        temperature: divides the logits; 0 is greedy.
        top_k: sample among this many likeliest tokens; 0 or -1 means all.
        top_p: sample among the smallest set whose probability reaches this, in (0, 1].
        min_p: drop tokens less likely than min_p × the likeliest, in [0, 1].
        repetition_penalty: in [0.01, 100]; divides positive and multiplies negative logits of tokens seen in the
            prompt or output (CTRL, Keskar et al. 2019).
        presence_penalty: subtracted once from the logit of every token seen in the output, in [-2, 2].
        frequency_penalty: subtracted once per occurrence in the output, in [-2, 2].
        logit_bias: token id → number added to its logit, in [-100, 100]; at most 1024 ids.
        seed: the same seed, prompt and model give the same tokens; None draws one.
        stop: at most 16 strings of 1 to 1024 characters that end the text; they are left out of it unless
            include_stop_str_in_output.
        stop_token_ids: ids that end the text; at most 1024.
        ignore_eos: go on past the model's own end tokens.
        logprobs: number of likeliest tokens to report with log probabilities at each step, 0–20; the
            sampled one is always among them. None reports nothing.
        prompt_logprobs: the same for each token of the prompt but the first, 0–20, by the model's own logits: nothing
            that shapes the choice of tokens changes them. All of the prompt is computed for it, whatever is cached.
        skip_special_tokens: leave special tokens out of the text.
        include_stop_str_in_output: keep the stop string in the text.
        n: texts to generate, ≥ 1; the prompt is computed once. Each draws by a seed of its own, made of ``seed`` and
            its index; the first is the text that n = 1 gives. In a beam search the best n of those found.
        use_beam_search: search for likely texts instead of drawing, as ``generate(num_beams=beam_width)`` of Hugging
            Face transformers does. Nothing else that shapes the choice of tokens goes with it, nor do stop strings.
        beam_width: hypotheses that a beam search follows, ≥ n; None means n.
        length_penalty: a beam search compares log probabilities divided by tokens to this power, in [-5, 5].
        early_stopping: True ends a beam search as soon as beam_width texts have ended, False when no running one
            would be among the best if it ended as it is, "never" when none could become so.
        structured_outputs: the grammar that the text keeps to; a mapping of its fields is taken too. Not with
            use_beam_search, min_tokens or ignore_eos: the grammar says when the text may end, and when it must.

    Raises:
        ParameterError: a field is out of its bounds; the message says what is allowed.
    """

    max_tokens: int | None = 16
    min_tokens: int = 0
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int | None = None
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    skip_special_tokens: bool = True
    include_stop_str_in_output: bool = False
    n: int = 1
    use_beam_search: bool = False
    beam_width: int | None = None
    length_penalty: float = 1.0
    early_stopping: bool | Literal["never"] = False
    structured_outputs: StructuredOutputs | None = None

    def __post_init__(self) -> None:
        _coerce(self)
        for name, low, high in BOUNDS:
            if not (name in _OPTIONAL and getattr(self, name) is None):
                check_number(name, getattr(self, name), low, high)
        check_number("top_p", self.top_p, 0.0, 1.0, open_low=True)
        for name in _FLAGS:
            if not isinstance(getattr(self, name), bool):
                raise ParameterError(name, f"takes true or false, not {shown(getattr(self, name))}")
        _check_stops(self)
        _check_bias(self.logit_bias)
        if self.max_tokens is not None and self.min_tokens > self.max_tokens:
            raise ParameterError("min_tokens", f"{self.min_tokens} is over max_tokens ({self.max_tokens})")
        _check_search(self)
        _check_structured(self)

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is taken, with no draw."""
        return self.temperature == 0.0

    @property
    def width(self) -> int:
        """Hypotheses of a beam search."""
        return self.n if self.beam_width is None else self.beam_width


BOUNDS: tuple[tuple[str, float, float], ...] = (
    ("max_tokens", 1, MAX_COUNT),
    ("min_tokens", 0, MAX_COUNT),
    ("temperature", 0.0, 100.0),
    ("top_k", -1, MAX_COUNT),
    ("min_p", 0.0, 1.0),
    ("repetition_penalty", 1 / MAX_REPETITION_PENALTY, MAX_REPETITION_PENALTY),
    ("presence_penalty", -2.0, 2.0),
    ("frequency_penalty", -2.0, 2.0),
    ("seed", 0, MAX_SEED),
    ("logprobs", 0, MAX_LOGPROBS),
    ("prompt_logprobs", 0, MAX_LOGPROBS),
    ("n", 1, MAX_CHOICES),
    ("beam_width", 1, MAX_CHOICES),
    ("length_penalty", -MAX_LENGTH_PENALTY, MAX_LENGTH_PENALTY),
)
_FLAGS = ("ignore_eos", "skip_special_tokens", "include_stop_str_in_output", "use_beam_search")
_OPTIONAL = frozenset({"max_tokens", "seed", "logprobs", "prompt_logprobs", "beam_width"})
_INTEGERS = _OPTIONAL | {"min_tokens", "top_k", "top_logprobs", "n"}
_NOT_STRUCTURED = ("use_beam_search", "min_tokens", "ignore_eos")  # off by 0 or False
_OF_SEARCH: tuple[tuple[str, object], ...] = (  # with the value that asks for nothing
    ("beam_width", None),
    ("length_penalty", 1.0),
    ("early_stopping", False),
)
_NOT_IN_SEARCH: tuple[tuple[str, tuple[object, ...]], ...] = (  # with the values that change nothing in a search
    ("temperature", (0.0, 1.0)),
    ("top_k", (0, -1)),
    ("top_p", (1.0,)),
    ("min_p", (0.0,)),
    ("repetition_penalty", (1.0,)),
    ("presence_penalty", (0.0,)),
    ("frequency_penalty", (0.0,)),
    ("logit_bias", ({},)),
    ("logprobs", (None,)),
    ("prompt_logprobs", (None,)),
    ("stop", ((),)),
)


def check_number(name: str, value: object, low: float, high: float, *, open_low: bool = False) -> None:
    """Refuse what is no number from low, or above it where that is open, to high.

    Raises:
        ParameterError: it is none, or not an integer where the parameter is one.
    """
    kind, words = (int, "an integer") if name in _INTEGERS else (int | float, "a number")
    is_nan = isinstance(value, float) and math.isnan(value)
    if isinstance(value, bool) or not isinstance(value, kind) or is_nan:
        raise ParameterError(name, f"takes {words}, not {shown(value)}")
    if value < low or value > high or (open_low and value == low):
        sign = ">" if open_low else "≥"
        raise ParameterError(name, f"{shown(value)} is not allowed; it must be {sign} {low} and ≤ {high}")


def _coerce(params: SamplingParams) -> None:
    """Accept a single stop string, lists where tuples are kept, and None for "nothing"."""
    stop: object = params.stop
    stops = (stop,) if isinstance(stop, str) else _tuple("stop", stop, "a string or a list of strings")
    object.__setattr__(params, "stop", stops)
    object.__setattr__(params, "stop_token_ids", _tuple("stop_token_ids", params.stop_token_ids, "a list of token ids"))
    object.__setattr__(params, FIELD, as_structured_outputs(params.structured_outputs))
    object.__setattr__(params, "logit_bias", {} if params.logit_bias is None else params.logit_bias)


def _tuple(name: str, value: object, takes: str) -> tuple[object, ...]:
    if value is None:
        return ()
    if not isinstance(value, list | tuple):
        raise ParameterError(name, f"takes {takes}, not {shown(value)}")
    return tuple(value)


def _check_search(params: SamplingParams) -> None:
    early = params.early_stopping
    if not (isinstance(early, bool) or early == "never"):
        raise ParameterError("early_stopping", f'takes true, false or "never", not {shown(early)}')
    if not params.use_beam_search:
        for name, nothing in _OF_SEARCH:
            if getattr(params, name) != nothing:
                raise ParameterError(name, "is only allowed with use_beam_search")
        return
    for name, harmless in _NOT_IN_SEARCH:
        if getattr(params, name) not in harmless:
            raise ParameterError(name, "cannot be combined with use_beam_search; leave it out")
    if params.n > params.width:
        raise ParameterError("n", f"{params.n} is over beam_width ({params.width}), the texts that a search keeps")


def _check_structured(params: SamplingParams) -> None:
    if params.structured_outputs is None:
        return
    for name in _NOT_STRUCTURED:
        if getattr(params, name):
            raise ParameterError(name, f"cannot be combined with {FIELD}, whose grammar says when the text ends")


def _check_stops(params: SamplingParams) -> None:
    _check_count("stop", len(params.stop), MAX_STOPS)
    for stop in params.stop:
        _check_stop(stop)
    _check_count("stop_token_ids", len(params.stop_token_ids), MAX_IDS)
    if not all(_is_token_id(i) for i in params.stop_token_ids):
        raise ParameterError("stop_token_ids", f"takes token ids, integers from 0 to {MAX_COUNT}")


def _check_stop(stop: object) -> None:
    if not isinstance(stop, str):
        raise ParameterError("stop", f"takes strings, not {shown(stop)}")
    if not stop:
        raise ParameterError("stop", "a stop string must not be empty")
    if len(stop) > MAX_STOP_LENGTH:
        message = f"a string is {len(stop)} characters long; at most {MAX_STOP_LENGTH} are allowed"
        raise ParameterError("stop", message)
    check_text("stop", stop)


def _check_bias(logit_bias: object) -> None:
    if not isinstance(logit_bias, Mapping):
        raise ParameterError("logit_bias", f"takes a map of token ids to numbers, not {shown(logit_bias)}")
    _check_count("logit_bias", len(logit_bias), MAX_IDS)
    for token, bias in logit_bias.items():
        if not _is_token_id(token):
            raise ParameterError("logit_bias", f"key {shown(token)} is no token id, an integer from 0 to {MAX_COUNT}")
        check_number("logit_bias", bias, -100.0, 100.0)


def _check_count(name: str, count: int, most: int) -> None:
    if count > most:
        raise ParameterError(name, f"{count} are given; at most {most} are allowed")


def _is_token_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_COUNT


def check_token_ids(params: SamplingParams, vocab_size: int) -> None:
    """Refuse ids that a model with this vocabulary does not have.

    Raises:
        ParameterError: an id in logit_bias or stop_token_ids is ≥ vocab_size.
    """
    for name, ids in (("logit_bias", params.logit_bias), ("stop_token_ids", params.stop_token_ids)):
        worst = max(ids, default=0)
        if worst >= vocab_size:
            raise ParameterError(name, f"{worst} is not a token id of this model; ids are 0 to {vocab_size - 1}")
