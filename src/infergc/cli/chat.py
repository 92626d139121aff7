"""``infergc chat``: a conversation with a model in the terminal."""

import sys
from collections.abc import Generator, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from infergc.cli.engine_options import engine_options
from infergc.cli.failures import StartFailure, configured, generating, refused
from infergc.cli.grouped import GroupedCommand, option
from infergc.cli.model_dir import model_dir, model_option
from infergc.cli.sampling_options import SAMPLING, sampling_options
from infergc.config import EngineConfig
from infergc.params import ParameterError, SamplingParams

if TYPE_CHECKING:
    from infergc.client import Piece
    from infergc.llm import LLM

_CHAT = "Chat"
_HELP = "/reset begins anew, /exit or /quit ends, as Ctrl-D does; Ctrl-C stops an answer."


@click.command(cls=GroupedCommand)
@model_option(_CHAT)
@option(_CHAT, "--system", metavar="TEXT", help="A system message, which stands before the conversation.")
@option(_CHAT, "--max-tokens", default=256, help="Most tokens of an answer; the context keeps room for so many.")
@sampling_options(_CHAT)
@engine_options
def chat(model: Path | None, system: str | None, max_tokens: int, **options: Any) -> None:
    """Talk to a model in the terminal.

    Each line that is read is a message; the answer is printed as it comes. The conversation so far goes with each
    message, and its KV stays in the cache. What no longer fits the context is forgotten, oldest turns first.
    """
    sampling = {name: options.pop(name) for name in SAMPLING}
    with generating():
        params = SamplingParams(max_tokens=max_tokens, **sampling)
        config = configured(model=model_dir(model, "--model"), **options)
        _chat(config, system, params)


def _chat(config: EngineConfig, system: str | None, params: SamplingParams) -> None:
    from infergc.llm import LLM  # noqa: PLC0415 - heavy, and --help must not wait for it
    from infergc.text.chat import ChatTemplate  # noqa: PLC0415 - as above

    if not ChatTemplate.load(config.model):
        raise StartFailure(f"{config.model} has no chat template; infergc generate continues a text without one")
    if sys.stderr.isatty():
        click.echo(f"Loading {config.model.resolve().name} … {_HELP}", err=True)
    with LLM(**config.model_dump()) as llm, suppress(KeyboardInterrupt):
        conversation = Conversation(llm, params, system)
        for line in _lines():
            if line == "/reset":
                conversation = Conversation(llm, params, system)
            elif line.startswith("/"):
                click.echo(_HELP, err=True)
            else:
                _answer(conversation, line)


class Conversation:
    """What was said so far, and who answers.

    Args:
        llm: answers.
        params: of the answers.
        system: a message before all others.
    """

    def __init__(self, llm: "LLM", params: SamplingParams, system: str | None) -> None:
        self._llm = llm
        self._params = params
        self._system = [{"role": "system", "content": system}] if system else []
        self._turns: list[dict[str, str]] = []

    def answer(self, message: str) -> Generator[str]:
        """What is said to a message, piece by piece; it is part of the conversation however far it came.

        Oldest turns are forgotten as long as the context has no room for all and an answer.

        Raises:
            ParameterError: the message alone is too long, or another setting is not allowed; nothing was said.
        """
        asked = {"role": "user", "content": message}
        with closing(self._pieces(asked)) as pieces:
            said: list[str] = []
            try:
                for piece in pieces:
                    said.append(piece.text)
                    yield piece.text
            finally:
                if said:
                    self._turns += [asked, {"role": "assistant", "content": "".join(said)}]

    def _pieces(self, asked: dict[str, str]) -> "Generator[Piece]":
        from infergc.client.prepare import CONTEXT_LENGTH, PromptError  # noqa: PLC0415 - heavy

        while True:
            try:
                return self._llm.stream_chat([*self._system, *self._turns, asked], self._params)
            except PromptError as error:
                if error.code != CONTEXT_LENGTH or not self._turns:
                    raise
                del self._turns[:2]


def _lines() -> Iterator[str]:
    """Messages as they are typed, until Ctrl-D, Ctrl-C or /exit; empty ones are left out."""
    with suppress(ImportError):
        import readline  # noqa: F401, PLC0415 - it gives input() a history and keys that move
    with suppress(EOFError):
        while (line := input("> " if sys.stdin.isatty() else "").strip()) not in {"/exit", "/quit"}:
            if line:
                yield line


def _answer(conversation: Conversation, message: str) -> None:
    try:
        with closing(conversation.answer(message)) as pieces:
            for piece in pieces:
                click.echo(piece, nl=False)
                sys.stdout.flush()
    except KeyboardInterrupt:
        click.echo(" [stopped]", nl=False, err=True)
    except ParameterError as error:
        click.echo(f"Not answered: {refused(error).message}", err=True)
    click.echo()
