"""What is to be measured: plain data, and the cells that it falls into."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from infergc.evaluation.tasks import TASKS

REFERENCE, VARIANT = "reference", "variant"
ROLES = (REFERENCE, VARIANT)


class PlanError(ValueError):
    """Something cannot be measured so; the message names the option."""


@dataclass(frozen=True, slots=True)
class RetrievalCell:
    """A context and its questions; ``seed`` draws it."""

    task: str
    length: int
    depth: float
    seed: int
    questions: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be measured.

    Attributes:
        tasks: names of recall tasks, in ``TASKS``.
        lengths: in tokens, each of context, question and answer together.
        depths: from 0 to 1.
        seeds: how many samples of each cell, and windows of text.
        questions: asked on one context, at most.
        text_tokens: of a window of text; 0: perplexity and fidelity are not measured.
        prefill: leading tokens of a window that are computed as a prompt; those after them are decoded.
        texts: files that the windows are cut from; none: texts are made up.
        haystack: file of the noise in tasks; None: it is made up.

    Raises:
        PlanError: naming the option that is wrong.
    """

    tasks: tuple[str, ...]
    lengths: tuple[int, ...]
    depths: tuple[float, ...]
    seeds: int
    questions: int
    text_tokens: int
    prefill: int = 1
    texts: tuple[Path, ...] = ()
    haystack: Path | None = None

    def __post_init__(self) -> None:
        for task in self.tasks:
            if task not in TASKS:
                raise PlanError(f"--tasks: there is no {task!r}; there are {', '.join(TASKS)}, all and none")
        if not self.tasks and not self.text_tokens:
            raise PlanError("--tasks none with --text-tokens 0: nothing is left to measure")
        if 0 < self.text_tokens <= self.prefill:
            raise PlanError(f"--prefill: {self.prefill} is not less than --text-tokens, {self.text_tokens}")

    def cells(self) -> Iterator[RetrievalCell]:
        """All of retrieval, those of one task and length together."""
        for task in self.tasks:
            for length in self.lengths:
                for depth in self.depths:
                    for seed in range(self.seeds):
                        yield RetrievalCell(task, length, depth, seed, self.questions)

    def told(self) -> dict[str, Any]:
        """As plain data."""
        files = {"texts": [str(file) for file in self.texts], "haystack": self.haystack and str(self.haystack)}
        return {**asdict(self), **files}
