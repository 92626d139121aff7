"""What clients were told of their open requests: all that has to be known to go on with them from nothing."""

from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from infergc.engine.messages import Command, Delta, Outputs, Submit, choice_names


@dataclass(slots=True)
class Told:
    """What was told of an open choice.

    Attributes:
        submit: the request.
        tokens: of its output.
        cached: prompt tokens found in the prefix cache; None before the first token.
        preemptions: how often it had given way.
        prompt: log probabilities of its prompt's tokens that were told.
    """

    submit: Submit
    tokens: "array[int]" = field(default_factory=lambda: array("i"))
    cached: int | None = None
    preemptions: int = 0
    prompt: int = 0

    def take(self, delta: Delta) -> None:
        """More is told."""
        self.prompt += len(delta.prompt_logprobs)
        self.tokens.extend(delta.tokens)
        if delta.tokens:
            self.cached, self.preemptions = delta.cached_tokens, delta.preemptions


class Transcript:
    """The open choices of an engine's requests, as its clients know them."""

    def __init__(self) -> None:
        self._open: dict[str, Told] = {}  # by name of the choice, in order of arrival

    def note(self, commands: Iterable[Command], outputs: Outputs) -> None:
        """An iteration took these commands and told this. Where it raises, nothing is noted.

        Cost: some 0.1 µs a token.
        """
        repeated, opened = self._opened(commands)
        known = {**self._open, **opened} if opened else self._open
        news = [(known[delta.request_id], delta) for delta in outputs.deltas if not _is_of(repeated, delta)]
        ended = {delta.request_id for told, delta in news if delta.finish}
        still = {name: told for name, told in known.items() if name not in ended} if ended else known
        logs = [known[name].tokens for name in outputs.ids] + [told.tokens for told, _ in news]
        sizes, prompts = list(map(len, logs)), [told.prompt for told, _ in news]
        try:
            for log, token in zip(logs, outputs.tokens, strict=False):
                log.append(token)
            for told, delta in news:
                told.take(delta)
        except BaseException:
            for log, size in zip(logs, sizes, strict=True):
                del log[size:]
            for (told, _), prompt in zip(news, prompts, strict=True):
                told.prompt = prompt
            raise
        self._open = still

    def end(self, names: Iterable[str]) -> None:
        """These are told that they ended, though by no iteration."""
        gone = set(names)
        self._open = {name: told for name, told in self._open.items() if name not in gone}

    def requests(self) -> list[Mapping[str, Told]]:
        """The open choices of each request, by name, in order of arrival."""
        found: dict[str, dict[str, Told]] = {}
        for name, told in self._open.items():
            found.setdefault(told.submit.request_id, {})[name] = told
        return list(found.values())

    def _opened(self, commands: Iterable[Command]) -> tuple[set[str], dict[str, Told]]:
        """The names of requests that are refused, for others run under them, and the choices of the rest."""
        repeated: set[str] = set()
        opened: dict[str, Told] = {}
        for command in commands:
            if isinstance(command, Submit):
                names = choice_names(command.request_id, command.params.n)
                taken = [name for name in (command.request_id, *names) if name in self._open or name in opened]
                if taken:
                    repeated.update(names)
                else:
                    opened.update((name, Told(command)) for name in names)
        return repeated, opened


def _is_of(repeated: set[str], delta: Delta) -> bool:
    """Whether it tells a request that another of its name runs already."""
    return delta.request_id in repeated and delta.finish == "error" and not delta.tokens
