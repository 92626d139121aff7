"""What an evaluation is given, and the keys under which each of its figures is recorded."""

from dataclasses import asdict, dataclass
from typing import Any

from infergc.config import EngineConfig
from infergc.evaluation.plan import REFERENCE, Plan, RetrievalCell
from infergc.evaluation.record import key_of
from infergc.evaluation.reference import full_precision, model_digest, settings_digest
from infergc.evaluation.tasks import TASKS, Haystack, Setting
from infergc.evaluation.windows import Ids
from infergc.text.tokenizer import Tokenizer

_VERSION = 1  # of how things are measured: what another version recorded is measured again


@dataclass(frozen=True, slots=True)
class Given:
    """What an evaluation is given.

    Attributes:
        plan: what to measure.
        config: of the engine that is judged.
        tokenizer: of the model.
        haystack: noise of the recall tasks.
        texts: windows of text, one a seed.
    """

    plan: Plan
    config: EngineConfig
    tokenizer: Tokenizer
    haystack: Haystack
    texts: list[Ids]

    def of(self, role: str) -> EngineConfig:
        """The configuration of a role's engine."""
        return full_precision(self.config) if role == REFERENCE else self.config


class Keys:
    """The key of a figure: a digest of all that it depends on, so that what was measured once is measured no more.

    Attributes:
        model: digest of the model.
    """

    def __init__(self, given: Given) -> None:
        self._given = given
        self.model = model_digest(given.config.model)
        self._haystack = key_of(given.haystack.text)
        self._probes = {task: _probe(task) for task in given.plan.tasks}

    def cell(self, role: str, cell: RetrievalCell) -> str:
        """Of a retrieval cell; where no setting is lossy both roles have the same."""
        return self._key(role, "retrieval", asdict(cell), self._haystack, self._probes[cell.task])

    def window(self, role: str, number: int) -> str:
        """Of a window of text; the variant's depends on what it is compared with."""
        compared = settings_digest(self._given.of(REFERENCE)) if role != REFERENCE else ""
        ids = key_of(self._given.texts[number].tolist())
        return self._key(role, "text", ids, self._given.plan.prefill, role, compared)

    def memory(self, role: str) -> str:
        """Of how KV is laid out."""
        return self._key(role, "kv")

    def _key(self, role: str, *parts: Any) -> str:
        return key_of([_VERSION, self.model, settings_digest(self._given.of(role)), *parts])


def _probe(task: str) -> str:
    """A name for what the task is at present: it changes with its words."""
    sample = TASKS[task](Setting(2000, 0.5, "probe", lambda text: len(text.split())))
    return key_of(asdict(sample))
