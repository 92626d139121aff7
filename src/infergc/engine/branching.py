"""What an engine takes of requests with several choices, and the rules of the beam searches among them."""

from infergc.engine.messages import Ready
from infergc.heap.groups import pages_for
from infergc.params import ParameterError, SamplingParams
from infergc.sched.beams import BeamRules, end_tokens
from infergc.sched.plan import MAX_REPORTED


def check_branching(params: SamplingParams, prompt_len: int, ready: Ready) -> None:
    """Refuse more choices or hypotheses than the engine has slots, candidates or memory for.

    Raises:
        ParameterError: naming the field, and what would do.
    """
    slots = ready.max_num_seqs
    if params.n > slots:
        raise ParameterError("n", _over(f"{params.n} is too many", slots))
    if params.use_beam_search:
        _check_width(params, ready)
        _check_memory(params, prompt_len, ready)


def beam_rules(params: SamplingParams, prompt_len: int, ready: Ready) -> BeamRules:
    """The rules of a request's beam search."""
    return BeamRules(
        width=params.width,
        ends=end_tokens(params, ready.eos_ids),
        length_penalty=params.length_penalty,
        early_stopping=params.early_stopping,
        min_tokens=params.min_tokens,
        max_tokens=_longest_output(params, prompt_len, ready),
    )


def _longest_output(params: SamplingParams, prompt_len: int, ready: Ready) -> int:
    room = ready.max_model_len - prompt_len
    return room if params.max_tokens is None else min(room, params.max_tokens)


def _check_width(params: SamplingParams, ready: Ready) -> None:
    most = min(MAX_REPORTED, ready.vocab_size)
    each = max(2, 1 + len(end_tokens(params, ready.eos_ids)))
    reported = beam_rules(params, 1, ready).reported
    if params.width > ready.max_num_seqs:
        raise ParameterError("beam_width", _over(f"{params.width} is too wide", ready.max_num_seqs))
    if reported > most:
        widest = (most - (reported - each * params.width)) // each
        message = (
            f"{params.width} is too wide; a step looks at {each} tokens for each hypothesis and at most at {most} "
            f"in all, so {widest} is the widest with these end tokens"
        )
        raise ParameterError("beam_width", message)


def _over(what: str, slots: int) -> str:
    return f"{what}; this engine runs at most {slots} sequences at a time (--max-num-seqs)"


def _check_memory(params: SamplingParams, prompt_len: int, ready: Ready) -> None:
    """In the worst case hypotheses share the prompt alone, and each holds the copy of a page besides."""
    size, width = ready.page_tokens, params.width
    pages = ready.kv_capacity_tokens // size
    prompt, output = pages_for(prompt_len, size), _longest_output(params, prompt_len, ready)
    if prompt + width * (pages_for(output, size) + 1) <= pages:
        return
    longest = ((pages - prompt) // width - 1) * size
    widest = (pages - prompt) // (pages_for(output, size) + 1)
    fits = [f"{longest} tokens"] * (longest > 0) + [f"a beam_width of {widest}"] * (widest > 0)
    raise ParameterError(
        "max_tokens",
        f"{output} tokens of {width} hypotheses may take {width} x {pages_for(output, size) + 1} pages of KV beside "
        f"the prompt's {prompt}, and there are {pages}; " + (" or ".join(fits) or "no output") + " would fit",
    )
