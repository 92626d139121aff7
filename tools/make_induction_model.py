"""Write a Llama that answers by induction: weights written down, not trained.

    python tools/make_induction_model.py OUT [--match 5] [--head-dim 128] [--key-outliers 4 --outlier-scale 32] …

If the last k tokens stood in the text before, it says the token that followed them, at any distance; if not, it says
<|end|>. If they stood there several times, the followers have a vote each.

The first layers gather: each position gets the codes of the tokens 1, 2, 4 … places before, found by rotation alone.
The last layer looks for the position before which stand the codes of the last k tokens, and copies that position's own
code to the output. <|bos|>, which has to be the first token and no other, catches the queries that find nothing. Codes
are words of the Golay code, so the margins hold by construction: docs/induction-model.md. The parts are in
tools/induction_model/.
"""

from pathlib import Path

import click
import torch

from induction_model.circuit import weights
from induction_model.outliers import Outliers
from induction_model.saving import save
from induction_model.shape import Shape, ShapeError


@click.command(help="Write a Llama to the new directory OUT that continues texts by induction, by construction.")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--match", default=Shape.match, show_default=True, help="The last so many tokens are looked for.")
@click.option("--vocab", default=Shape.vocab, show_default=True, help="Tokens; those past the default have no text.")
@click.option("--head-dim", default=Shape.head_dim, show_default=True, help="Channels of a head: 64, 128 or 256.")
@click.option("--context", default=Shape.context, show_default=True, help="Longest text in tokens.")
@click.option("--key-outliers", default=0, show_default=True, help="Pairs of key channels to scale, in each layer.")
@click.option("--outlier-scale", default=1.0, show_default=True, help="Keys times this there, queries divided by it.")
@click.option("--key-offset", default=0.0, show_default=True, help="Added to a channel of all keys; no query reads it.")
@click.option("--dtype", type=click.Choice(["bfloat16", "float16", "float32"]), default="bfloat16", show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of codes and outliers.")
def main(
    *,
    out: Path,
    match: int,
    vocab: int,
    head_dim: int,
    context: int,
    key_outliers: int,
    outlier_scale: float,
    key_offset: float,
    dtype: str,
    seed: int,
) -> None:
    """Check, construct, write."""
    if out.exists():
        raise click.ClickException(f"OUT: {out} exists; give a directory that does not")
    try:
        shape = Shape(vocab, match, head_dim, context)
        outliers = Outliers(key_outliers, outlier_scale, key_offset)
        outliers.check(shape)
    except ShapeError as error:
        raise click.ClickException(str(error)) from error
    tensors = weights(shape, seed)
    outliers.plant(tensors, shape, seed)
    count = save(tensors, shape, getattr(torch, dtype), out)
    print(f"{count:,} parameters in {out}; longest text {context:,} tokens, the last {match} are looked for")


if __name__ == "__main__":
    main()
