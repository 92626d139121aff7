"""An evaluation from its plan to its figures: the reference first, then the settings that are judged beside it."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from infergc.config import EngineConfig
from infergc.evaluation.decoding import Job, decode
from infergc.evaluation.given import Given, Keys
from infergc.evaluation.likelihoods import check_room
from infergc.evaluation.plan import REFERENCE, ROLES, VARIANT, Plan, PlanError
from infergc.evaluation.record import Record
from infergc.evaluation.retrieval import ask, sample_of
from infergc.evaluation.subject import Subject
from infergc.evaluation.summary import Measured, summary
from infergc.evaluation.tasks import Haystack, TaskError
from infergc.evaluation.windows import read_text, windows
from infergc.llm.progress import Advance, Begin
from infergc.text.tokenizer import Tokenizer

RESULTS = "results.json"
_ROWS = "reference"  # folder of the reference's log probabilities


def evaluate(plan: Plan, config: EngineConfig, out: Path, begin: Begin) -> dict[str, Any]:
    """Measure what has not been measured in ``out`` yet, write ``results.json`` there, and return what is in it.

    Args:
        plan: what to measure.
        config: of the engine that is judged.
        out: folder of the record.
        begin: tells of progress.

    Raises:
        PlanError, ConfigError: something cannot be measured so; the message names the option.
        OSError, ValueError, RuntimeError: the model cannot be loaded, or the engine gave up.
    """
    tokenizer = Tokenizer.load(config.model)
    haystack = Haystack(read_text("--haystack", plan.haystack) if plan.haystack else "")
    _check_tasks(plan, tokenizer, haystack)
    texts = windows(plan, tokenizer)
    if not config.enable_prefix_caching and plan.tasks:
        raise PlanError("--no-enable-prefix-caching: several questions are asked on one cache; this needs it")
    given = Given(plan, config, tokenizer, haystack, texts)
    with Record(out) as record:
        run = _Run(given, record, out / _ROWS)
        results = summary(given, run.keys.model, run.measure(begin))
        (out / RESULTS).write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
        run.clear()
    return results


def _check_tasks(plan: Plan, tokenizer: Tokenizer, haystack: Haystack) -> None:
    """See that every task fits into every length, before a model is loaded.

    Raises:
        PlanError: one does not.
    """
    seen = set()
    for cell in plan.cells():
        if (cell.task, cell.length) not in seen:
            seen.add((cell.task, cell.length))
            try:
                sample_of(cell, tokenizer, haystack)
            except TaskError as error:
                raise PlanError(f"--lengths: {error}") from None


class _Run:
    """One evaluation under way."""

    def __init__(self, given: Given, record: Record, rows: Path) -> None:
        self._given = given
        self._record = record
        self._rows = rows
        self._subject: tuple[EngineConfig, Subject] | None = None
        self.keys = Keys(given)

    def measure(self, begin: Begin) -> Measured:
        """What is recorded of all cells, when nothing is left to measure."""
        try:
            for role in ROLES:
                self._role(role, begin)
        finally:
            self._unload()
        return self._measured()

    def clear(self) -> None:
        """Remove the reference's log probabilities: all that they are compared with is recorded."""
        shutil.rmtree(self._rows, ignore_errors=True)

    def _role(self, role: str, begin: Begin) -> None:
        """Measure what is missing of a role."""
        windows = [number for number in range(len(self._given.texts)) if self._is_missing(role, number)]
        cells = [cell for cell in self._given.plan.cells() if self._record.get(self.keys.cell(role, cell)) is None]
        if not windows and not cells:
            return
        advance = begin(f"Loading, {role}", len(windows) + len(cells))
        subject = self._load(role)
        self._check_lengths(subject)
        self._record.put(self.keys.memory(role), {"kind": "kv", "role": role}, subject.kv)
        advance = begin(f"Decoding text, {role}" if windows else f"Retrieval, {role}", len(windows) + len(cells))
        self._decode(subject, role, windows, advance)
        for cell in cells:
            sample = sample_of(cell, self._given.tokenizer, self._given.haystack)
            found = ask(subject, cell, sample, self._given.tokenizer)
            self._record.put(self.keys.cell(role, cell), {"kind": "retrieval", "role": role, **asdict(cell)}, found)
            advance(1)

    def _check_lengths(self, subject: Subject) -> None:
        plan, most = self._given.plan, subject.ready.max_model_len
        texts = max((len(ids) for ids in self._given.texts), default=0)
        for option, tokens in (("--lengths", max(plan.lengths) if plan.tasks else 0), ("--text-tokens", texts)):
            if tokens > most:
                raise PlanError(
                    f"{option}: {tokens} tokens are over the {most} that one request may have; the model's context, "
                    "--max-model-len, --memory and --kv-cache-memory set that limit"
                )

    def _is_missing(self, role: str, number: int) -> bool:
        """Whether a window is to be decoded: the reference once more, too, where its rows are gone and still needed."""
        is_compared = self._record.get(self.keys.window(VARIANT, number)) is not None
        if role == VARIANT:
            return not is_compared
        is_known = self._record.get(self.keys.window(REFERENCE, number)) is not None
        return not is_known or not (is_compared or self._file(number).is_file())

    def _decode(self, subject: Subject, role: str, numbers: list[int], advance: Advance) -> None:
        given = self._given
        jobs = [Job(number, given.texts[number], given.plan.prefill, self._file(number)) for number in numbers]
        if role == REFERENCE and jobs:
            self._rows.mkdir(parents=True, exist_ok=True)
            check_room(self._rows, sum(job.decoded for job in jobs) * subject.ready.vocab_size * 4)

        def ended(job: Job, found: dict[str, Any]) -> None:
            cell = {"kind": "text", "role": role, "window": job.number, "tokens": len(job.ids), "prefill": job.prefill}
            self._record.put(self.keys.window(role, job.number), cell, found)
            advance(1)

        decode(subject, role, jobs, given.config.max_num_seqs, ended)

    def _file(self, number: int) -> Path:
        return self._rows / f"{self.keys.window(REFERENCE, number)}.f32"

    def _load(self, role: str) -> Subject:
        """The role's engine; the other's is closed first, unless it is the same."""
        config = self._given.of(role)
        if self._subject is None or self._subject[0] != config:
            self._unload()
            self._subject = config, Subject(config, forced=bool(self._given.texts))
        return self._subject[1]

    def _unload(self) -> None:
        if self._subject is not None:
            self._subject[1].close()
            self._subject = None

    def _measured(self) -> Measured:
        recorded, keys, given = self._record, self.keys, self._given
        return Measured(
            {role: [recorded[keys.window(role, number)] for number in range(len(given.texts))] for role in ROLES},
            {role: {cell: recorded[keys.cell(role, cell)] for cell in given.plan.cells()} for role in ROLES},
            {role: recorded[keys.memory(role)] for role in ROLES},
        )
