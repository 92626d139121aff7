"""What a trace or a generator says of one request, and the prompt that stands for it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from infergc.sched.plan import I32

VOCAB = 2**31 - 1  # of a simulated model: as many ids as blocks may have
_UNSHARED = 1 << 30  # block ids stay below: a prompt that shares nothing has an id of its own above


@dataclass(frozen=True, slots=True)
class TraceRequest:
    """One request of a workload.

    Attributes:
        arrival: seconds after the workload began.
        input_len, output_len: tokens, each at least 1.
        blocks: what the prompt consists of, one id for each ``block_tokens`` tokens, the last of which may be cut
            short: equal ids stand for equal tokens after equal beginnings. Empty: it shares nothing.
        block_tokens: tokens in a block.
        session: a turn of this session; "" for none.
        choices: texts asked for: beams of a search if ``beam``, parallel samples otherwise.
        beam: whether the choices are found by beam search.
        salt: the tenant inside whom pages are shared.
    """

    arrival: float
    input_len: int
    output_len: int
    blocks: tuple[int, ...] = ()
    block_tokens: int = 512
    session: str = ""
    choices: int = 1
    beam: bool = False
    salt: str = ""

    def prompt(self, number: int) -> I32:
        """Token ids of the prompt.

        Args:
            number: of the request, less than 2**30: what a prompt that shares nothing is told apart by.
        """
        if not self.blocks:
            return np.full(self.input_len, _UNSHARED + number, np.int32)
        return np.repeat(np.array(self.blocks, np.int32), self.block_tokens)[: self.input_len]


def turns_that_follow(requests: Sequence[TraceRequest]) -> dict[int, int]:
    """Number of a turn → number of the next one of its conversation, for all that have one."""
    follows: dict[int, int] = {}
    last: dict[tuple[str, str], int] = {}
    for number, request in enumerate(requests):
        if request.session:
            conversation = (request.salt, request.session)
            if conversation in last:
                follows[last[conversation]] = number
            last[conversation] = number
    return follows
