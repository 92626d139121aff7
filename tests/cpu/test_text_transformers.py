"""Tokenizer and chat template against transformers, on a tokenizer built here."""

import pytest
from transformers import AutoTokenizer

from infergc.text.chat import ChatTemplate
from infergc.text.tokenizer import Tokenizer
from samples import tokenizer_dirs
from samples.tokenizer_dirs import TEXT, TURN

TEMPLATE = """
{%- if messages[0].role == 'system' %}{% set system = messages[0].content %}{% set messages = messages[1:] %}{% endif %}
{{- bos_token }}
{%- if tools %}{{ tools | tojson(indent=2) }}{% endif %}
{%- for message in messages %}
    {%- if message.role not in ['user', 'assistant'] %}{{ raise_exception('role ' + message.role) }}{% endif %}
    {%- if message.tool_calls is defined %}{% continue %}{% endif %}
    <|turn|>{{ message.role }}
    {% generation %}
    {{ message.content | trim }}{{ eos_token }}
    {% endgeneration %}
{% endfor %}
{%- if add_generation_prompt %}<|turn|>assistant{{ '\\n' }}{% endif %}
"""
CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "  <b>Grüße</b> 你好 😀 "},
    {"role": "assistant", "content": "again", "tool_calls": None},
    {"role": "user", "content": TEXT[0]},
]
TOOLS = [{"type": "function", "function": {"name": "größe", "description": "it's <here>", "parameters": {}}}]


@pytest.fixture(scope="module", params=["byte-level", "sentencepiece"])
def directory(request, tmp_path_factory):
    return tokenizer_dirs.save(request.param, tmp_path_factory.mktemp(request.param), chat_template=TEMPLATE)


@pytest.mark.parametrize("flags", [{}, {"add_bos_token": False}, {"add_eos_token": True}])
@pytest.mark.parametrize("special", [True, False])
def test_encode(tmp_path, flags, special):
    directory = tokenizer_dirs.save("byte-level", tmp_path, **flags)
    ours, theirs = Tokenizer.load(directory), AutoTokenizer.from_pretrained(directory)
    for text in [*TEXT, f"a{TURN} b", ""]:
        assert ours.encode(text, add_special_tokens=special) == theirs.encode(text, add_special_tokens=special)


@pytest.mark.parametrize("skip", [True, False])
def test_decode(directory, skip):
    ours, theirs = Tokenizer.load(directory), AutoTokenizer.from_pretrained(directory)
    for text in [*TEXT, f"a{TURN} b"]:
        ids = theirs.encode(text)
        assert ours.decode(ids, skip_special_tokens=skip) == theirs.decode(ids, skip_special_tokens=skip)


def test_special_tokens(directory):
    ours, theirs = Tokenizer.load(directory), AutoTokenizer.from_pretrained(directory)
    assert (ours.bos_id, ours.eos_ids) == (theirs.bos_token_id, (theirs.eos_token_id,))
    assert ours.vocab_size == len(theirs)


@pytest.mark.parametrize("tools", [None, TOOLS])
@pytest.mark.parametrize("prompt", [True, False])
def test_chat(directory, tools, prompt):
    theirs = AutoTokenizer.from_pretrained(directory)
    rendered = ChatTemplate.load(directory).render(CHAT, tools=tools, add_generation_prompt=prompt)
    assert rendered == theirs.apply_chat_template(CHAT, tools=tools, add_generation_prompt=prompt, tokenize=False)
    ids = theirs.apply_chat_template(CHAT, tools=tools, add_generation_prompt=prompt, return_dict=False)
    assert Tokenizer.load(directory).encode(rendered, add_special_tokens=False) == ids
    assert ids.count(theirs.bos_token_id) == 1
