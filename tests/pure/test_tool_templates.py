"""Chat templates with tools, in the manner of three families of models."""

import pytest

from infergc.server.requests.messages import Message
from infergc.server.tools.fields import ToolField
from infergc.text.chat import ChatTemplate, ConversationError, NoToolsError
from infergc.text.tools.formats import find_format
from samples.tool_templates import HERMES, LLAMA, MISTRAL

TOOLS = [{"type": "function", "function": {"name": "now", "description": "The time"}}]
CALL = {"id": "abcdefghi", "type": "function", "function": {"name": "now", "arguments": '{"zone":"ÜT"}'}}
CHAT = [
    {"role": "user", "content": "What time is it?"},
    {"role": "assistant", "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "abcdefghi", "content": "Noon."},
]
SHOWN = {
    HERMES: ('<tool_call>\n{"name": "now", "arguments": {"zone": "ÜT"}}\n</tool_call>', "\nNoon.\n"),
    LLAMA: ('{"name": "now", "parameters": {"zone": "ÜT"}}', '"Noon."'),
    MISTRAL: ('[TOOL_CALLS][{"name": "now", "arguments": {"zone": "ÜT"}, "id": "abcdefghi"}]',
              '{"content": "Noon.", "call_id": "abcdefghi"}'),
}  # fmt: skip
NAMES = {HERMES: "hermes", LLAMA: "llama3_json", MISTRAL: "mistral"}


def render(source: str, chat: list[dict[str, object]], *, tools: bool = True) -> str:
    messages = [Message.model_validate(message).for_template() for message in chat]
    shown = [ToolField.model_validate(tool).for_template() for tool in TOOLS] if tools else None
    return ChatTemplate({"default": source}, {}).render(messages, tools=shown)


@pytest.mark.parametrize("source", SHOWN, ids=NAMES.values())
def test_tools_calls_and_results_are_shown(source: str) -> None:
    text = render(source, CHAT)
    assert "The time" in text
    assert "The time" not in render(source, CHAT, tools=False)
    for part in SHOWN[source]:
        assert part in text


@pytest.mark.parametrize("source", SHOWN, ids=NAMES.values())
def test_what_the_template_shows_is_what_is_read(source: str) -> None:
    found = find_format("auto", source)
    assert found is not None
    assert found.name == NAMES[source]
    news = found.parser({"now"}).push(SHOWN[source][0], last=True)
    assert [(call.name, call.arguments) for call in news.calls] == [("now", '{"zone": "ÜT"}')]
    assert not news.content


def test_a_template_may_refuse_calls() -> None:
    with pytest.raises(ConversationError, match="one call at a time"):
        render(LLAMA, [CHAT[0], {"role": "assistant", "tool_calls": [CALL, CALL]}])


@pytest.mark.parametrize("source", ["{{ messages }}", "{# tools #}{{ messages }}", "{% set tools = 1 %}{{ messages }}"])
def test_a_template_that_knows_no_tools_is_given_none(source: str) -> None:
    assert render(source, CHAT[:1], tools=False)
    with pytest.raises(NoToolsError, match=r"^tools: .*--chat-template"):
        render(source, CHAT[:1])
