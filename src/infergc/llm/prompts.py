"""The forms in which prompts are given to the offline API."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TypedDict

from infergc.params import ParameterError, SamplingParams
from infergc.text.tokenizer import Tokenizer
from infergc.wording import shown


class TokensPrompt(TypedDict):
    """A prompt as token ids."""

    prompt_token_ids: Sequence[int]


class TextPrompt(TypedDict):
    """A prompt as text."""

    prompt: str


Prompt = str | TokensPrompt | TextPrompt
_FORMS = 'a string, {"prompt": text} or {"prompt_token_ids": ids}'


def as_list(prompts: Prompt | Sequence[Prompt]) -> list[Prompt]:
    """One prompt or several, as a list.

    Raises:
        TypeError: it is neither.
    """
    if isinstance(prompts, (str, Mapping)):
        return [prompts]
    if not isinstance(prompts, Iterable):
        raise TypeError(f"prompts: takes {_FORMS}, or a list of these, not {shown(prompts)}")
    return list(prompts)


def encode(prompt: Prompt, tokenizer: Tokenizer) -> tuple[str | None, list[int]]:
    """A prompt's text, None if it was given as ids, and its ids.

    Raises:
        ParameterError: it has another form, or is an empty text.
    """
    if isinstance(prompt, str):
        prompt = {"prompt": prompt}
    match prompt:
        case {"prompt": "", **rest} if not rest:
            raise ParameterError("prompt", "must not be empty")
        case {"prompt": str(text), **rest} if not rest:
            return text, tokenizer.encode(text)
        case {"prompt_token_ids": Iterable() as ids, **rest} if not rest:
            return None, list(ids)
    raise ParameterError("prompts", f"takes {_FORMS}, or a list of these, not {shown(prompt)}")


def params_for(count: int, given: SamplingParams | Sequence[SamplingParams] | None) -> list[SamplingParams]:
    """Sampling parameters for each of ``count`` prompts: one for all, or one for each.

    Raises:
        ParameterError: a list of another length.
        TypeError: it is neither.
    """
    if given is None:
        given = SamplingParams()
    if isinstance(given, SamplingParams):
        return [given] * count
    if not (isinstance(given, Sequence) and all(isinstance(one, SamplingParams) for one in given)):
        raise TypeError(
            f"sampling_params: takes SamplingParams, or a list with one for each prompt, not {shown(given)}"
        )
    if len(given) != count:
        raise ParameterError("sampling_params", f"{len(given)} were given for {count} prompts; give one for each")
    return list(given)
