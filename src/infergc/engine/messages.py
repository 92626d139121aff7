"""Messages between a client and its engine: plain data, one batch each way per step, msgpack on the wire."""

from typing import Any

import msgspec

from infergc.cache_control import CacheControl
from infergc.params import SamplingParams


class Submit(msgspec.Struct, tag="submit", array_like=True):
    """Start a request. ``params.seed`` is set: the client draws one where the user gave none.

    What comes of it is told under the names of its choices, see ``choice_names``.
    """

    request_id: str
    prompt: list[int]
    params: SamplingParams
    priority: int = 0  # smaller runs first under the priority policy
    salt: str = ""  # cache namespace of the tenant; pages are shared only inside one
    session: str = ""  # a turn of this session of the tenant's, which is opened if it is not open; "" for none
    cache_control: CacheControl | None = None  # how its prompt's pages are to be kept
    queue_timeout: int | None = None  # seconds after which it ends with "timeout" unless it was started; None for ever
    public_tokens: int = (
        0  # leading tokens of the prompt that were declared public: all tenants share their whole pages
    )


class Abort(msgspec.Struct, tag="abort", array_like=True):
    """End a request, or one of its choices, and free what that holds within a step.

    The choices of a beam search end together. Unknown ids are ignored: what they name may have finished.

    Attributes:
        request_id: its name, or the choice's.
        stopped: its text is complete, for a stop string was found in it, which only the client can see: it finishes
            with the reason "stop", and its session takes the turn. Else it is abandoned, and nothing of it is kept.
    """

    request_id: str
    stopped: bool = False


class Ask(msgspec.Struct, tag="ask", array_like=True):
    """Have a question answered, or a thing done, at the next safepoint; see ``engine.inquiries`` for what there is.

    The answer comes as an ``Answer`` of the same number in ``Outputs.answers``.
    """

    number: int
    what: str
    about: dict[str, Any] = {}


class Shutdown(msgspec.Struct, tag="shutdown", array_like=True):
    """Abort everything and leave."""


class Tick(msgspec.Struct, tag="tick", array_like=True):
    """The time, in whole seconds since the engine began: the only time that heap and scheduler know (law 10).

    Whoever drives the engine says so (``engine.ticks``), whenever a second has begun; without it no time passes.
    """

    seconds: int


class Saved(msgspec.Struct, tag="saved", array_like=True):
    """News of the disk tier: these pages can be read from now on, by key; they were written, or found at start."""

    keys: list[bytes]
    failed: list[bytes] = []  # could not be written


class Fetched(msgspec.Struct, tag="fetched", array_like=True):
    """News of the disk tier: a read is over."""

    number: int
    found: list[bool]  # by page, in the order asked for
    size: int  # bytes
    seconds: float


class Lost(msgspec.Struct, tag="lost", array_like=True):
    """News of the disk tier: these pages can be read no longer, by key."""

    keys: list[bytes]


DiskNews = Saved | Fetched | Lost
Command = Submit | Abort | Ask | Shutdown | Tick | DiskNews


def choice_names(request_id: str, choices: int) -> tuple[str, ...]:
    """What the choices of a request are called: as the request itself where there is only one."""
    return (request_id,) if choices == 1 else tuple(f"{request_id}#{index}" for index in range(choices))


class Logprobs(msgspec.Struct, array_like=True):
    """Log probabilities of one token and of the likeliest ones at its place, likeliest first."""

    sampled: float
    rank: int
    top_ids: tuple[int, ...]
    top: tuple[float, ...]


class Delta(msgspec.Struct, array_like=True):
    """News of one request, or of one of its choices. A beam search's texts are told whole, each in one.

    Attributes:
        request_id: the name of the choice.
        tokens: ids generated since the last delta. An end token or stop id is included.
        finish: "" while running, else "stop", "length", "abort", "error" or "timeout".
        stop_id: the stop token id that ended it, None if the model's own end token or a limit did.
        cached_tokens: prompt tokens not computed because their KV was found in the prefix cache at first
            admission; recomputation after a preemption never counts. Told with the first token and the last.
        logprobs: one per token where asked for.
        error: what went wrong when finish is "error" or "timeout".
        cumulative_logprob: the sum over all tokens, of a beam search's text.
        pinned_tokens: prompt tokens that are pinned because the request asked for it, 0 where the budget had no room;
            told as ``cached_tokens`` is. None if it did not ask.
        preemptions: how often it had to give way; told as ``cached_tokens`` is.
        prompt_logprobs: where asked for, one for each token of the prompt but the first, in order: as they are
            computed, at the latest with the first token. Told of a request's first choice alone.
    """

    request_id: str
    tokens: list[int]
    finish: str = ""
    stop_id: int | None = None
    cached_tokens: int = 0
    logprobs: list[Logprobs] = []
    error: str = ""
    cumulative_logprob: float | None = None
    pinned_tokens: int | None = None
    preemptions: int = 0
    prompt_logprobs: list[Logprobs] = []


class Answer(msgspec.Struct, array_like=True):
    """What came of an ``Ask``: a value, or why there is none."""

    number: int
    value: Any = None
    error: str = ""


class Outputs(msgspec.Struct, array_like=True):
    """One step's news, and the engine's counters with it.

    Most requests merely gain a token and go on: they are told as two columns. ``news`` gives all as deltas.
    """

    deltas: list[Delta] = []  # of requests of which there is more to tell
    ids: list[str] = []  # requests that gained one token and go on
    tokens: list[int] = []  # the token of each
    stats: dict[str, Any] | None = None  # see engine.stats.snapshot
    answers: list[Answer] = []
    waits: dict[str, float] = {}  # seconds until requests started, by the first choice; a clock's, so for logs alone

    def news(self) -> list[Delta]:
        """Everything told of requests, at most one delta for a step's token of a request."""
        return [*self.deltas, *(Delta(name, [token]) for name, token in zip(self.ids, self.tokens, strict=True))]


class Ready(msgspec.Struct, array_like=True):
    """First message of an engine: what it serves and what it holds in memory."""

    max_model_len: int
    vocab_size: int
    eos_ids: tuple[int, ...]
    dtype: str
    backend: str
    memory: dict[str, int]  # at most, in bytes by holder: runtime, weights, activations, kv
    kv_capacity_tokens: int
    error: str = ""  # why the engine could not start, "" if it did
    page_tokens: int = 16
    max_num_seqs: int = 1
