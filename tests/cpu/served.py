"""A small random Llama with a real tokenizer and a chat template: everything that a server of a real model needs."""

from pathlib import Path

from cpu.families import make_family
from samples import tokenizer_dirs
from samples.served_model import CHAT_TEMPLATE


def make_served(directory: Path) -> Path:
    """Write the checkpoint; ``</s>`` is its end token."""
    vocabulary = tokenizer_dirs.build("byte-level").get_vocab_size()
    make_family("llama3", directory, vocab_size=vocabulary, eos_token_id=1)
    tokenizer_dirs.save("byte-level", directory, chat_template=CHAT_TEMPLATE)
    return directory


def demo_model(root: Path) -> Path | None:
    """The bundled model, where it is complete."""
    directory = root / "models" / "demo"
    wanted = ("config.json", "tokenizer.json", "model.safetensors")
    return directory if all((directory / name).is_file() for name in wanted) else None
