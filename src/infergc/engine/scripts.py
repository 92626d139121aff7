"""Scripts: texts that a model is made to write, as plain data: for who measures in this process, never for a server.

Shapes: N tokens of a continuation, V vocabulary.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Take = Callable[[int, NDArray[np.float32]], None]


@dataclass(frozen=True, slots=True)
class Continuation:
    """What follows a prompt.

    Attributes:
        tokens: [N] ids, taken one a step whatever the model finds likely.
        take: told the index of each token and the model's own log probabilities there, [V], natural, before anything
            shapes them. Called by the worker's thread; twice for an index whose step failed or was computed again.
    """

    tokens: NDArray[np.int32]
    take: Take


Script = dict[int, Continuation]  # by the seed of the request, which is how a worker can tell it from others
