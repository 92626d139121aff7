"""Calls in models' texts: what is one, what only looks like one, and that pieces of a text say what the whole says."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infergc.text.tools import call_reader
from infergc.text.tools.formats import CHOICES, find_format
from infergc.text.tools.hermes import Hermes
from infergc.text.tools.llama3_json import Llama3Json
from infergc.text.tools.mistral import Mistral
from infergc.text.tools.parser import ToolParser

NAMES = ("get_weather", "add")
WEATHER = '{"city": "Zürich", "days": [1, {"a": "}]\\"{"}]}'
ADD = "{}"
PARSERS = {"hermes": Hermes(), "llama3_json": Llama3Json(), "mistral": Mistral()}


@dataclass
class Answer:
    """A text read to its end: content, and name and arguments of each call."""

    content: str = ""
    calls: list[list[str]] = field(default_factory=list)


def read(kind: str, *pieces: str) -> Answer:
    parser: ToolParser = PARSERS[kind].parser(NAMES)
    answer = Answer()
    for number, piece in enumerate(pieces, 1):
        news = parser.push(piece, last=number == len(pieces))
        answer.content += news.content
        for call in news.calls:
            if call.name is not None:
                answer.calls.append([call.name, ""])
            assert call.index == len(answer.calls) - 1
            answer.calls[-1][1] += call.arguments
    assert parser.calls == len(answer.calls)
    return answer


def hermes(*calls: str) -> str:
    return "\n".join(f"<tool_call>\n{call}\n</tool_call>" for call in calls)


def call(name: str, arguments: str, key: str = "arguments") -> str:
    return f'{{"name": "{name}", "{key}": {arguments}}}'


BOTH = [["get_weather", WEATHER], ["add", ADD]]
LLAMA = (call("get_weather", WEATHER, "parameters"), call("add", ADD, "parameters"))
PLAIN = (call("get_weather", WEATHER), call("add", ADD))
CALLS = [
    ("hermes", hermes(*PLAIN), "", BOTH),
    ("hermes", "Let me see.\n\n" + hermes(*PLAIN) + "\nDone.", "Let me see.\nDone.", BOTH),
    ("hermes", "".join(f"<tool_call>{each}</tool_call>" for each in PLAIN), "", BOTH),
    ("hermes", f'<tool_call>{{"arguments": {WEATHER}, "name": "get_weather"}}</tool_call>', "", BOTH[:1]),
    ("hermes", f"<tool_call>\n{PLAIN[0]}", "", BOTH[:1]),
    ("hermes", f"<tool_call>{PLAIN[0][:-1]}</tool_call>", "", BOTH[:1]),  # its last brace forgotten
    ("hermes", f"<tool_call>{PLAIN[0]}\n<tool_call>{PLAIN[1]}", "", BOTH),  # its closing marks, too
    ("hermes", f"a < b, <tool_ <tool_call>{PLAIN[0]}</tool_call>", "a < b, <tool_", BOTH[:1]),
    ("llama3_json", LLAMA[0], "", BOTH[:1]),
    ("llama3_json", f"\n<|python_tag|>{LLAMA[0]}", "", BOTH[:1]),
    ("llama3_json", "; ".join(LLAMA), "", BOTH),
    ("llama3_json", f"<|python_tag|>{LLAMA[0]};<|python_tag|>{LLAMA[1]}", ";", BOTH),
    ("llama3_json", f"I call: <|python_tag|>{LLAMA[0]}", "I call:", BOTH[:1]),
    ("llama3_json", f'{{"type": "function", {LLAMA[0][1:]}', "", BOTH[:1]),
    ("llama3_json", f"{LLAMA[0]} as you wished", " as you wished", BOTH[:1]),
    ("mistral", f"[TOOL_CALLS] [{', '.join(PLAIN)}]", "", BOTH),
    ("mistral", f'Well.[TOOL_CALLS][{PLAIN[0][:-1]}, "id": "abcdefghi"}}]', "Well.", BOTH[:1]),
    ("mistral", f"[TOOL_CALLS]get_weather[ARGS]{WEATHER}[TOOL_CALLS]add[ARGS]{ADD}", "", BOTH),
    ("mistral", f"[TOOL_CALLS]get_weather[CALL_ID]a1b2c3d4e[ARGS]{WEATHER}", "", BOTH[:1]),
    ("mistral", f"[TOOL_CALLS]get_weather{WEATHER}\nSo.", "\nSo.", BOTH[:1]),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "text", "content", "calls"), CALLS)
def test_calls_are_found(kind: str, text: str, content: str, calls: list[list[str]]) -> None:
    assert read(kind, text) == Answer(content, calls)
    assert all(isinstance(json.loads(arguments), dict) for _, arguments in calls)


NO_CALLS = [
    ("hermes", "Nothing to call. "),
    ("hermes", " \n"),
    ("hermes", "<tool_call>\nget_weather(city)\n</tool_call>"),
    ("hermes", hermes(call("format_disk", ADD))),  # not one of the functions
    ("hermes", '<tool_call>{"name": "add", "arguments": "none"}</tool_call>'),
    ("hermes", '<tool_call>{"name": "add"}</tool_call>'),
    ("hermes", '<tool_call>{"name: "add", "arguments": {}}\n</tool_call>'),
    ("hermes", "<tool_call>{'name': 'add', 'arguments': {}}</tool_call>"),
    ("hermes", '<tool_call>{"name": "add", "argum'),  # unfinished
    ("hermes", "<tool_call>"),
    ("hermes", "so <tool_ca"),
    ("hermes", "<tool_call>{}</tool_call>"),
    ("hermes", '<tool_call>{"name": "add"]</tool_call>'),
    ("llama3_json", '{"name": "Ada", "born": 1815}'),
    ("llama3_json", '{"people": [{"name": "add", "parameters": {}}]}'),
    ("llama3_json", "<|python_tag|>print(1)"),
    ("llama3_json", f"Write {LLAMA[0]}"),
    ("mistral", "[TOOL_CALLS] []"),
    ("mistral", "[TOOL_CALLS]format_disk[ARGS]{}"),
    ("mistral", "[TOOL_CALLS] add, if you please {}"),
    ("mistral", "[TOOL_CALLS][1, 2]"),
    ("mistral", "an array: [1, 2]"),
]


@pytest.mark.parametrize(("kind", "text"), NO_CALLS)
def test_what_is_no_call_is_content_as_it_stands(kind: str, text: str) -> None:
    assert read(kind, text) == Answer(text)


def test_a_call_goes_on_after_one_that_was_none() -> None:
    text = "<tool_call><tool_call>" + PLAIN[0] + "</tool_call>"
    assert read("hermes", text) == Answer("<tool_call>", BOTH[:1])


@pytest.mark.parametrize("kind", PARSERS)
def test_arguments_that_never_end_are_told_as_far_as_they_came(kind: str) -> None:
    head = {"hermes": "<tool_call>", "llama3_json": "", "mistral": "[TOOL_CALLS]["}[kind]
    assert read(kind, f'{head}{{"name": "add", "arguments": {{"a": [1, "x') == Answer("", [["add", '{"a": [1, "x']])


def test_a_call_is_told_as_it_comes() -> None:
    parser = Hermes().parser(NAMES)
    assert not parser.push('One moment.\n<tool_call>{"name": "add", "arguments": ').calls
    (begun,) = parser.push('{"a": ').calls
    assert (begun.index, begun.name, begun.arguments) == (0, "add", '{"a": ')
    (more,) = parser.push("1}").calls
    assert (more.index, more.name, more.arguments) == (0, None, "1}")


def test_no_half_mark_is_told() -> None:
    parser = Mistral().parser(NAMES)
    assert parser.push("Well [TOOL_").content == "Well"
    assert parser.push("KIT]").content == " [TOOL_KIT]"


FRAGMENTS = [
    "<tool_call>", "</tool_call>", "<|python_tag|>", "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]x", *PLAIN, *LLAMA, WEATHER,
    "add", "get_weather", '{"name": "add", ', '"arguments": {', "}", "]", "[", ", ", "; ", "\n", " ", "é日", "\\", '"',
]  # fmt: skip
TEXTS = st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=4), max_size=12).map("".join)


@given(st.sampled_from(list(PARSERS)), st.sampled_from([text for _, text, *_ in CALLS]) | TEXTS, st.data())
def test_pieces_say_what_the_whole_says(kind: str, text: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert read(kind, *pieces) == read(kind, text) == read(kind, *text, "")


@given(st.sampled_from(list(PARSERS)), TEXTS)
def test_nothing_is_lost_or_made_up(kind: str, text: str) -> None:
    answer = read(kind, text)
    if not answer.calls:
        assert answer.content == text
    for name, _ in answer.calls:
        assert name in NAMES


class Looked:
    """A pattern that counts the characters that it is given."""

    def __init__(self, pattern: re.Pattern[str]) -> None:
        self._pattern = pattern
        self.characters = 0

    def __getattr__(self, name: str) -> Callable[[str], re.Match[str] | None]:
        def look(text: str) -> re.Match[str] | None:
            self.characters += len(text)
            return getattr(self._pattern, name)(text)

        return look


@pytest.mark.parametrize("odd", ["{}", ":", "[{", '"" :', '{"name"', ", {"])
@pytest.mark.parametrize("head", ['{"name":', "{", '{"name": "add", "x":'])
def test_a_text_is_looked_at_once(head: str, odd: str, monkeypatch: pytest.MonkeyPatch) -> None:
    patterns = [Looked(getattr(call_reader, name)) for name in ("_HEAD", "_FIRST_KEY")]
    for name, pattern in zip(("_HEAD", "_FIRST_KEY"), patterns, strict=True):
        monkeypatch.setattr(call_reader, name, pattern)
    text = f"<tool_call>{head}" + odd * 2000
    assert read("hermes", text) == Answer(text)
    assert sum(pattern.characters for pattern in patterns) < 1000


@pytest.mark.parametrize(("kind", "text"), [
    ("hermes", "<tool_call>{gap}"), ("hermes", hermes(PLAIN[0])[:-12] + "{gap}"), ("llama3_json", "{gap}"),
    ("mistral", "[TOOL_CALLS]{gap}"), ("mistral", "[TOOL_CALLS][{gap}"), ("mistral", "[TOOL_CALLS]add{gap}"),
])  # fmt: skip
def test_little_is_held_before_a_call(kind: str, text: str) -> None:
    parser: ToolParser = PARSERS[kind].parser(NAMES)
    for char in text.replace("{gap}", " " * 5000):
        parser.push(char)
        assert len(parser._held) < 300


TEMPLATES = {
    "<tools>{{ tools }}</tools> answer with <tool_call>{\"name\": …}</tool_call>": "hermes",
    "<tool_call><function=name><parameter=a></tool_call>{{ tools }}": None,
    "<tool_call>{{ tools }}<arg_key>": None,
    "<|start_header_id|>{{ tools }} {\"name\": …, \"parameters\": …}": "llama3_json",
    "[AVAILABLE_TOOLS]{{ tools }}[TOOL_CALLS][": "mistral",
    "{{ tools }}": None,
}  # fmt: skip


@pytest.mark.parametrize(("template", "name"), TEMPLATES.items())
def test_the_template_shows_the_format(template: str, name: str | None) -> None:
    found = find_format("auto", template)
    assert (found.name if found else None) == name


def test_the_flag_goes_before_the_template() -> None:
    for name in CHOICES[1:]:
        assert find_format(name, "<tool_call>").name == name
    assert find_format("mistral", "[TOOL_CALLS]{{ name }}[ARGS]{{ arguments }}").newer
