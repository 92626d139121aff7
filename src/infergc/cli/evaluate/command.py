"""``infergc eval``: perplexity, agreement and recall of a KV cache, beside the same engine in full precision."""

from pathlib import Path
from typing import Any

import click

from infergc.cli.bench.json_option import json_option, write_told
from infergc.cli.engine_options import engine_options
from infergc.cli.evaluate.options import depths, lengths, make_folder, task_names
from infergc.cli.failures import configured, told
from infergc.cli.grouped import GroupedCommand, option
from infergc.cli.model_dir import model_dir, model_option
from infergc.cli.quantities import COUNT
from infergc.config import EngineConfig

_WHAT = "What is measured"
_RECALL = "Recall"
_TEXT = "Text"
_OUTPUT = "Output"
_PICTURE = "results.png"
_FILE = click.Path(path_type=Path)


@click.command("eval", cls=GroupedCommand, short_help="What a way of keeping KV costs in quality.")
@model_option(_WHAT)
@option(_WHAT, "--seeds", default=5, type=click.IntRange(1, 1000),
        help="Samples of each task, length and depth, and windows of text: intervals are over these.")  # fmt: skip
@option(_RECALL, "--tasks", default="all", metavar="NAME,…", callback=task_names,
        help="passkey, single-key, multi-key, variable-tracking, copying; all; none.")  # fmt: skip
@option(_RECALL, "--lengths", default="512,1024", metavar="TOKENS,…", callback=lengths,
        help="Context, question and answer together.")  # fmt: skip
@option(_RECALL, "--depths", default="0,0.5,1", metavar="DEPTH,…", callback=depths,
        help="Where in the context lies what is asked for: 0 its beginning, 1 its end.")  # fmt: skip
@option(_RECALL, "--questions", default=3, type=click.IntRange(1, 64),
        help="Asked on one cache, at most; the context is computed before any of them.")  # fmt: skip
@option(_RECALL, "--haystack", metavar="FILE", type=_FILE, help="Text of the noise. Default: sentences made up.")
@option(_TEXT, "--text", "texts", metavar="FILE", type=_FILE, multiple=True,
        help="Text for perplexity and agreement; may be given several times. Default: sentences made up.")  # fmt: skip
@option(_TEXT, "--text-tokens", default="1024", metavar="TOKENS", type=COUNT, help="In each window of it.")
@option(_TEXT, "--no-text", is_flag=True, help="Leave perplexity and agreement out.")
@option(_TEXT, "--prefill", default="1", metavar="TOKENS", type=COUNT,
        help="Leading tokens of a window that are a prompt; each later one is decoded by itself.")  # fmt: skip
@option(_OUTPUT, "--out", default="infergc-eval", metavar="DIR", type=_FILE, callback=make_folder,
        help="Folder of the record, results.json and results.png. What it records is not measured again.")  # fmt: skip
@json_option(_OUTPUT)
@engine_options
def evaluate(model: Path | None, out: Path, json_file: Path | None, **options: Any) -> None:
    """Judge a KV cache beside the same engine with a full-precision one.

    Both write the same texts token by token: perplexity by position, KL divergence, agreement on the likeliest token.
    Both answer questions on contexts that were computed before: recall by length and depth. Where the full cache
    scores under 95 % a task is unusable for comparison, and marked so. See docs/evaluation.md.
    """
    asked = {name: options.pop(name) for name in _ASKED}
    config = configured(model=model_dir(model, "--model"), **options)
    results = _run(asked, config, out)
    if json_file is not None:
        write_told(json_file, results)
    _report(results, out)


_ASKED = (
    "seeds", "tasks", "lengths", "depths", "questions", "haystack", "texts", "text_tokens", "no_text", "prefill",
)  # fmt: skip


def _run(asked: dict[str, Any], config: EngineConfig, out: Path) -> dict[str, Any]:
    from infergc.evaluation.evaluate import evaluate as run  # noqa: PLC0415 - heavy, and --help must not wait for it
    from infergc.evaluation.plan import Plan, PlanError  # noqa: PLC0415
    from infergc.llm.progress import progress_bars  # noqa: PLC0415

    text_tokens = 0 if asked.pop("no_text") else asked.pop("text_tokens")
    asked.pop("text_tokens", None)
    with told():
        try:
            plan = Plan(**asked, text_tokens=text_tokens)
            with progress_bars(show=True) as begin:
                return run(plan, config, out, begin)
        except PlanError as error:
            raise click.UsageError(str(error)) from None


def _report(results: dict[str, Any], out: Path) -> None:
    """The picture first: whoever reads the tables may stop reading."""
    from infergc.cli.evaluate.tables import show  # noqa: PLC0415 - heavy

    try:
        from infergc.cli.evaluate.plot import plot  # noqa: PLC0415 - an optional extra
    except ImportError:
        click.echo(f"no {_PICTURE}: it needs matplotlib; pip install 'infergc[plot]'", err=True)
    else:
        with told():
            plot(out / _PICTURE, results)
    show(results)
    click.echo(f"Recorded in {out}")
