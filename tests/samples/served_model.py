"""A model directory for servers under the simulated executor: a real tokenizer and a geometry, no weights."""

import json
from pathlib import Path

from samples import tokenizer_dirs
from samples.tokenizer_dirs import TURN

CONTEXT = 1024
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message.role == 'assistant' and loop.first %}{{ raise_exception('the user speaks first') }}{% endif %}"
    f"{TURN}{{{{ message.role }}}}: {{{{ message.content }}}}"
    "{% endfor %}"
    f"{{% if add_generation_prompt %}}{TURN}assistant:{{% endif %}}"
)
GEOMETRY = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 2,
    "max_position_embeddings": CONTEXT,
}


def save(path: Path, *, chat: bool = True, context: int = CONTEXT) -> Path:
    """Write the directory; every id of its vocabulary has a text."""
    template = {"chat_template": CHAT_TEMPLATE} if chat else {}
    tokenizer_dirs.save("byte-level", path, **template)
    vocabulary = tokenizer_dirs.build("byte-level").get_vocab_size()
    geometry = {**GEOMETRY, "max_position_embeddings": context, "vocab_size": vocabulary, "eos_token_id": 1}
    (path / "config.json").write_text(json.dumps(geometry))
    return path
