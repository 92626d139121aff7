"""``infergc generate``: a text, or several, streamed to the terminal."""

import json
import sys
from pathlib import Path
from time import perf_counter
from typing import Any, TextIO

import click

from infergc.cli.engine_options import engine_options
from infergc.cli.failures import configured, generating
from infergc.cli.grouped import GroupedCommand, option
from infergc.cli.model_dir import model_dir, model_option
from infergc.cli.sampling_options import SAMPLING, sampling_options
from infergc.config import EngineConfig
from infergc.params import ParameterError, SamplingParams, StructuredOutputs

_TEXT = "Text"


@click.command(cls=GroupedCommand)
@click.argument("prompt")
@model_option(_TEXT)
@option(_TEXT, "--chat", is_flag=True, help="Take PROMPT as a user's message, through the chat template.")
@option(_TEXT, "--max-tokens", default=256, help="Most tokens to generate.")
@sampling_options(_TEXT)
@option(_TEXT, "--stop", multiple=True, metavar="TEXT", help="Ends the text; may be given several times.")
@option(_TEXT, "--ignore-eos", is_flag=True, help="Go on past the model's end token.")
@option(_TEXT, "--n", default=1, help="Texts to generate; each is printed under its number.")
@option(_TEXT, "--json-schema", type=click.File(), metavar="FILE", help="Text is JSON that the schema in FILE allows.")
@option(_TEXT, "--regex", metavar="PATTERN", help="Text is matched by this expression from end to end.")
@option(_TEXT, "--use-beam-search", is_flag=True, help="Search for likely texts instead of drawing; prints the best n.")
@option(_TEXT, "--beam-width", type=int, help="Hypotheses that a beam search follows. Default: n.")
@engine_options
def generate(prompt: str, model: Path | None, chat: bool, **options: Any) -> None:
    """Continue PROMPT and print the text.

    It is printed as it comes, and other texts of several after it; "-" reads the prompt from standard input.
    """
    sampling = {name: options.pop(name) for name in (*SAMPLING, *_OTHERS)}
    with generating():
        params = SamplingParams(**sampling, structured_outputs=_structured(options))
        config = configured(model=model_dir(model, "--model"), **options)
        text = sys.stdin.read() if prompt == "-" else prompt
        if not text:
            raise ParameterError("prompt", "must not be empty")
        _stream(config, text, params, chat=chat)


def _structured(options: dict[str, Any]) -> StructuredOutputs | None:
    schema, regex = options.pop("json_schema"), options.pop("regex")
    if schema is not None and regex is not None:
        raise click.UsageError("--json-schema, --regex: the text cannot keep to both; give one of them")
    if schema is not None:
        return StructuredOutputs(json=_json(schema))
    return None if regex is None else StructuredOutputs(regex=regex)


def _json(file: TextIO) -> str:
    """The text of a file that holds JSON; whether that is a schema, the engine's client finds out."""
    try:
        text = file.read()
        json.loads(text)
    except ValueError as error:
        raise click.UsageError(f"--json-schema: {file.name} is not JSON: {error}") from None
    except RecursionError:
        raise click.UsageError(f"--json-schema: {file.name} is nested too deeply") from None
    return text


_OTHERS = ("max_tokens", "stop", "ignore_eos", "n", "use_beam_search", "beam_width")


def _stream(config: EngineConfig, prompt: str, params: SamplingParams, *, chat: bool) -> None:
    from infergc.cli.texts import Texts  # noqa: PLC0415 - heavy, and --help must not wait for it
    from infergc.llm import LLM  # noqa: PLC0415 - as above

    if sys.stderr.isatty():
        click.echo(f"Loading {config.model.resolve().name} …", err=True)
    with LLM(**config.model_dump()) as llm:
        pieces = llm.stream_chat([{"role": "user", "content": prompt}], params) if chat else llm.stream(prompt, params)
        texts, started = Texts(params.n), perf_counter()
        texts.begin()
        for piece in pieces:
            texts.take(piece)
        seconds = perf_counter() - started
        texts.end()
        ends = ", ".join(map(str, texts.ends))
        click.echo(f"[{texts.tokens} tokens, {texts.tokens / seconds:.1f} a second, ended by {ends}]", err=True)
