"""Chat templates: what templates of Hugging Face models expect, where they come from, how they fail."""

import json
from datetime import datetime

import pytest

from infergc.params import ParameterError
from infergc.text.chat import ChatTemplate, ChatTemplateError, ConversationError, NoChatTemplateError
from samples import tokenizer_dirs

TURNS = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
USER = [{"role": "user", "content": "hi"}]


def template(source: str, **special: str) -> ChatTemplate:
    return ChatTemplate({"default": source}, special)


def test_messages_and_generation_prompt():
    source = TURNS + "{% if add_generation_prompt %}<assistant>{% endif %}"
    assert template(source).render(USER) == "<user>hi<assistant>"
    assert template(source).render(USER, add_generation_prompt=False) == "<user>hi"


def test_variables():
    source = "{{ bos_token }}{{ tools[0].name }}{{ documents[0].title }}{{ enable_thinking }}"
    text = template(source, bos_token="<s>").render(
        USER, tools=[{"name": "f"}], documents=[{"title": "d"}], enable_thinking=False
    )
    assert text == "<s>fdFalse"


def test_environment():
    assert template("{{ {'a': '<é>'} | tojson }}").render(USER) == '{"a": "<é>"}'
    assert (
        template("{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}").render(USER) == "01"
    )
    assert template("  {% if true %}\n    x\n  {% endif %}\ny").render(USER) == "    x\ny"
    assert template("{% generation %}a{{ messages|length }}{% endgeneration %}").render(USER) == "a1"
    assert template("{{ strftime_now('%Y') }}").render(USER) in {
        str(datetime.now().year),
        str(datetime.now().year - 1),
    }
    assert template("{% set n = namespace(x=1) %}{% set n.x = 2 %}{{ n.x }}").render(USER) == "2"


def test_keys_that_hold_none_are_left_out():
    source = "{% if 'tool_calls' in messages[0] %}tools{% endif %}ok"
    assert template(source).render([{"role": "assistant", "content": "", "tool_calls": None}]) == "ok"


def test_the_templates_own_refusal_is_the_callers_error():
    with pytest.raises(ConversationError, match=r"messages: .*only user") as caught:
        template("{{ raise_exception('only user') }}").render(USER)
    assert isinstance(caught.value, ParameterError)
    assert caught.value.field == "messages"


@pytest.mark.parametrize("source", ["{{ 1 + messages[0].content }}", "{{ messages[5].role.x }}", "{{ 1 / 0 }}"])
def test_a_template_that_fails_on_the_conversation(source):
    with pytest.raises(ConversationError, match="refused"):
        template(source).render(USER)


def test_an_empty_conversation():
    with pytest.raises(ConversationError, match="at least one"):
        template(TURNS).render([])


@pytest.mark.parametrize(
    "source",
    ["{{ messages.append(1) }}", "{{ ''.__class__.__mro__ }}", "{{ raise_exception.__globals__['json'] }}",
     "{{ messages[0].update({'a': 1}) }}"],
)  # fmt: skip
def test_the_sandbox_holds(source):
    messages = [dict(USER[0])]
    with pytest.raises(ConversationError):
        template(source).render(messages)
    assert messages == USER


def test_syntax_errors_name_the_line():
    with pytest.raises(ChatTemplateError, match="line 2"):
        template("ok\n{% for %}")


class TestFiles:
    def test_in_the_configuration(self, tmp_path):
        directory = tokenizer_dirs.save("byte-level", tmp_path, chat_template="{{ bos_token }}" + TURNS)
        assert ChatTemplate.load(directory).render(USER) == "<s><user>hi"

    def test_by_name(self, tmp_path):
        named = [
            {"name": "default", "template": "plain"},
            {"name": "tool_use", "template": "{{ tools | length }} tools"},
        ]
        directory = tokenizer_dirs.save("byte-level", tmp_path, chat_template=named)
        assert ChatTemplate.load(directory).render(USER) == "plain"
        assert ChatTemplate.load(directory).render(USER, tools=[{}]) == "1 tools"

    def test_a_file_goes_before_the_configuration_and_an_override_before_both(self, tmp_path):
        directory = tokenizer_dirs.save("byte-level", tmp_path / "model", chat_template="configuration")
        (directory / "chat_template.jinja").write_text("datei ß", encoding="utf-8")
        assert ChatTemplate.load(directory).render(USER) == "datei ß"
        (tmp_path / "mine.jinja").write_text("mine")
        assert ChatTemplate.load(directory, tmp_path / "mine.jinja").render(USER) == "mine"

    def test_none(self, tmp_path):
        loaded = ChatTemplate.load(tmp_path)
        assert not loaded
        with pytest.raises(NoChatTemplateError, match="--chat-template"):
            loaded.render(USER)

    def test_an_override_that_is_not_there(self, tmp_path):
        with pytest.raises(ChatTemplateError, match=r"--chat-template: cannot read .*nowhere\.jinja"):
            ChatTemplate.load(tmp_path, tmp_path / "nowhere.jinja")

    def test_a_file_with_a_wrong_template_is_named(self, tmp_path):
        (tmp_path / "mine.jinja").write_text("ok\n{% for %}")
        with pytest.raises(
            ChatTemplateError, match=r"^--chat-template: .*mine\.jinja: chat template 'default', line 2"
        ):
            ChatTemplate.load(tmp_path, tmp_path / "mine.jinja")

    @pytest.mark.parametrize("broken", [3, [{"name": "default"}], {"a": 1}])
    def test_a_template_of_the_wrong_kind(self, tmp_path, broken):
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": broken}))
        with pytest.raises(ChatTemplateError, match=r"tokenizer_config\.json: chat_template"):
            ChatTemplate.load(tmp_path)
