"""What clients were told of their open requests: all that has to be known to go on with them from nothing."""

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np

from infergc.engine.messages import Command, Delta, Outputs, Submit, Tick, choice_names
from infergc.sched.plan import I32


@dataclass(slots=True)
class OpenChoice:
    """A choice that has not ended, as its client knows it.

    Attributes:
        submit: its request, without the prompt.
        prompt: of the request.
        second: when that came, in the engine's seconds.
        tokens: of its output that were told.
        cached: prompt tokens found in the prefix cache; None before the first token.
        preemptions: how often it had given way.
        prompt_told: log probabilities of its prompt's tokens that were told.
    """

    submit: Submit
    prompt: I32
    second: int
    tokens: "array[int]" = field(default_factory=lambda: array("i"))
    cached: int | None = None
    preemptions: int = 0
    prompt_told: int = 0

    @property
    def request(self) -> Submit:
        """As it was submitted."""
        return msgspec.structs.replace(self.submit, prompt=self.prompt.tolist())

    def take(self, delta: Delta) -> None:
        """More is told."""
        self.prompt_told += len(delta.prompt_logprobs)
        self.tokens.extend(delta.tokens)
        if delta.tokens:
            self.cached, self.preemptions = delta.cached_tokens, delta.preemptions


Choices = Mapping[str, OpenChoice]  # the open choices of one request, by name, in order


class Transcript:
    """The open choices of an engine's requests. No name is used twice, as clients see to.

    Memory: 4 bytes a token, of prompts and outputs.

    Attributes:
        second: the engine's latest.
    """

    def __init__(self) -> None:
        self.second = 0
        self._open: dict[str, OpenChoice] = {}  # by name, in order of arrival

    def note(self, commands: Iterable[Command], outputs: Outputs) -> None:
        """An iteration took these commands and told this. Where it raises, nothing is noted.

        Cost: some 0.1 µs a token.
        """
        second, opened = self._opened(commands)
        known = {**self._open, **opened} if opened else self._open
        news = [(known[delta.request_id], delta) for delta in outputs.deltas if _is_of(known, opened, delta)]
        ended = {delta.request_id for _, delta in news if delta.finish}
        still = {name: choice for name, choice in known.items() if name not in ended} if ended else known
        logs = [known[name].tokens for name in outputs.ids] + [choice.tokens for choice, _ in news]
        sizes, prompts = list(map(len, logs)), [choice.prompt_told for choice, _ in news]
        try:
            for log, token in zip(logs, outputs.tokens, strict=False):
                log.append(token)
            for choice, delta in news:
                choice.take(delta)
        except BaseException:
            for log, size in zip(logs, sizes, strict=True):
                del log[size:]
            for (choice, _), prompt in zip(news, prompts, strict=True):
                choice.prompt_told = prompt
            raise
        self._open, self.second = still, second

    def family(self, name: str) -> list[str]:
        """Choices that fail with one: itself, and where nothing was told of any, for they share a prompt, all."""
        choice = self._open.get(name)
        if choice is None:
            return []
        names = [other for other, one in self._open.items() if one.submit is choice.submit]
        return [name] if any(self._open[other].tokens for other in names) else names

    def names(self, request_id: str) -> list[str]:
        """The open choices of a request, or the one of that name."""
        return [name for name, one in self._open.items() if request_id in {name, one.submit.request_id}]

    def end(self, names: Iterable[str]) -> None:
        """These end, though by no iteration."""
        gone = set(names)
        self._open = {name: choice for name, choice in self._open.items() if name not in gone}

    def requests(self) -> list[Choices]:
        """All requests, in order of arrival."""
        found: dict[str, dict[str, OpenChoice]] = {}
        for name, choice in self._open.items():
            found.setdefault(choice.submit.request_id, {})[name] = choice
        return list(found.values())

    def _opened(self, commands: Iterable[Command]) -> tuple[int, dict[str, OpenChoice]]:
        """The second after these commands, and the choices that they open."""
        second, opened = self.second, dict[str, OpenChoice]()
        for command in commands:
            if isinstance(command, Tick):
                second = command.seconds
            elif isinstance(command, Submit):
                names = choice_names(command.request_id, command.params.n)
                if not any(name in self._open or name in opened for name in (command.request_id, *names)):
                    opened.update(_choices(command, names, second))
        return second, opened


def _choices(submit: Submit, names: Sequence[str], second: int) -> Iterator[tuple[str, OpenChoice]]:
    prompt, submit = np.array(submit.prompt, np.int32), msgspec.structs.replace(submit, prompt=[])
    return ((name, OpenChoice(submit, prompt, second)) for name in names)


def _is_of(known: Choices, opened: Choices, delta: Delta) -> bool:
    """Whether it is of the choice of its name: not where a request of a name that is taken is refused."""
    refuses = delta.finish == "error" and not delta.tokens and delta.request_id not in opened
    return delta.request_id in known and not (refuses and delta.error.startswith("request_id: "))
