"""Texts that keep to a grammar: what a random model writes parses, however it is drawn, batched, preempted or streamed.

The model gives every token a chance, among them ids that the tokenizer does not have; any of two tokens ends its texts.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from cpu.families import make_family
from cpu.test_engine_families import engine_for
from infergc import LLM, SamplingParams, StructuredOutputs
from infergc.client import RequestFailedError
from infergc.grammars import GrammarError
from infergc.worker.sampling.compiled import CompiledGrammars
from samples import tokenizer_dirs
from samples.engines import run, submit
from samples.served_model import CHAT_TEMPLATE
from samples.servers import Server, serving

PADDING = 37
ENDS = (1, 2)
PROMPTS = ["the quick brown fox", "hello", "x"]


class Animal(BaseModel):
    name: str = Field(max_length=5)
    kind: Literal["cat", "dog"]
    legs: int = Field(ge=0, le=8)
    friends: list[Literal["mouse", "bird"]] = Field(max_length=2)


SCHEMA = {**Animal.model_json_schema(), "additionalProperties": False}
ANIMAL = StructuredOutputs(json=SCHEMA)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("served")
    vocabulary = tokenizer_dirs.build("byte-level").get_vocab_size() + PADDING
    make_family("llama3", directory, vocab_size=vocabulary, eos_token_id=list(ENDS))
    return tokenizer_dirs.save("byte-level", directory, chat_template=CHAT_TEMPLATE)


@pytest.fixture(scope="module")
def llm(model: Path) -> Iterator[LLM]:
    with LLM(model, dtype="float32", kv_cache_memory="16MiB", threads=1, deterministic=True) as made:
        yield made


def params(outputs: StructuredOutputs | None = ANIMAL, **others: Any) -> SamplingParams:
    return SamplingParams(**{"max_tokens": 600, "structured_outputs": outputs, **others})


def texts(llm: LLM, *asked: SamplingParams) -> list[str]:
    results = llm.generate([PROMPTS[index % 3] for index in range(len(asked))], list(asked), use_tqdm=False)
    return [output.text for result in results for output in result.outputs]


def check_animal(text: str) -> None:
    Animal.model_validate_json(text)


@pytest.mark.parametrize("temperature", [0, 1, 1.5])
def test_json_keeps_to_its_schema(llm: LLM, temperature: float) -> None:
    found = texts(llm, *(params(seed=seed, temperature=temperature) for seed in range(6)))
    for text in found:
        check_animal(text)
    assert len(set(found)) >= (3 if temperature == 0 else 6)


def test_others_in_the_batch_see_nothing_of_it(llm: LLM) -> None:
    free = [params(None, max_tokens=50, seed=seed, ignore_eos=True, repetition_penalty=1.1) for seed in range(3)]
    bound = [params(seed=seed) for seed in range(3)]
    together = texts(llm, *(one for pair in zip(bound, free, strict=True) for one in pair))
    alone = [llm.generate(PROMPTS[at % 3], one, use_tqdm=False)[0].outputs[0].text
             for at, one in enumerate(one for pair in zip(bound, free, strict=True) for one in pair)]  # fmt: skip
    assert together == alone


def test_choices_of_one_request_each_keep_to_it(llm: LLM) -> None:
    found = texts(llm, params(n=3, seed=4))
    for text in found:
        check_animal(text)
    assert len(set(found)) == 3
    assert found[0] == texts(llm, params(seed=4))[0]


def test_a_stream_is_the_same_text(llm: LLM) -> None:
    pieces = list(llm.stream(PROMPTS[0], params(seed=2)))
    assert "".join(piece.text for piece in pieces) == texts(llm, params(seed=2))[0]
    assert pieces[-1].finish_reason == "stop"


def test_limits_and_stop_strings_end_it_as_any_text(llm: LLM) -> None:
    whole = texts(llm, params(seed=3))[0]
    (cut,) = llm.generate(PROMPTS[0], params(seed=3, max_tokens=9), use_tqdm=False)[0].outputs
    assert cut.finish_reason == "length"
    assert whole.startswith(cut.text)
    (stopped,) = llm.generate(PROMPTS[0], params(seed=3, stop='"kind"'), use_tqdm=False)[0].outputs
    assert (stopped.finish_reason, stopped.stop_reason) == ("stop", '"kind"')
    assert stopped.text == whole[: whole.index('"kind"')]


def test_after_a_preemption_it_goes_on_where_it_was(model: Path, llm: LLM) -> None:
    asked = [params(seed=seed, max_tokens=300) for seed in range(12)]
    with LLM(model, dtype="float32", kv_cache_memory="260KiB", threads=1, deterministic=True) as small:
        assert texts(small, *asked) == texts(llm, *asked)
        assert small.stats["preempted"]["recompute"] > 0


def test_the_other_kinds(llm: LLM) -> None:
    strings = ("yes", 'a "quote"\n', "😀")
    found = texts(llm, *(params(StructuredOutputs(choice=strings), seed=seed) for seed in range(12)))
    assert set(found) == set(strings)
    regex, lark, number, anything = texts(
        llm,
        params(StructuredOutputs(regex=r"[a-f]{3}-[0-9]*ü?"), max_tokens=200),
        params(StructuredOutputs(grammar='start: "<" n ">"\nn: %json {"enum": ["a", 7]}')),
        params(StructuredOutputs(json={"type": "integer", "minimum": 10, "maximum": 12})),
        params(StructuredOutputs(json_object=True), max_tokens=40),
    )
    assert re.fullmatch(r"[a-f]{3}-[0-9]*ü?", regex)
    assert lark in {'<"a">', "<7>"}
    assert 10 <= int(number) <= 12
    assert anything.startswith("{")


def test_any_end_token_ends_it_and_none_is_drawn_that_has_no_text(llm: LLM) -> None:
    asked = [params(StructuredOutputs(regex="[^a]{2,9}"), seed=seed, temperature=3.0) for seed in range(40)]
    results = llm.generate(["x"] * 40, asked, use_tqdm=False)
    tokens = [result.outputs[0].token_ids for result in results]
    assert {ids[-1] for ids in tokens} == set(ENDS)
    assert max(map(max, tokens)) < llm.get_tokenizer().vocab_size


def test_log_probabilities_are_of_what_could_be_drawn(llm: LLM) -> None:
    (output,) = llm.generate("x", params(StructuredOutputs(choice=("a", "b")), logprobs=5), use_tqdm=False)[0].outputs
    first = output.logprobs[0]
    assert {each.decoded_token for each in first.values()} == {"a", "b"}
    assert sum(np.exp(each.logprob) for each in first.values()) == pytest.approx(1)


def _regexes() -> st.SearchStrategy[str]:
    atoms = st.sampled_from(["a", "[b-d]", "[^x]", r"\.", "[0-9]", "ü", " the"])
    return st.recursive(
        atoms,
        lambda inner: st.one_of(
            st.lists(inner, min_size=2, max_size=3).map("".join),
            st.lists(inner, min_size=2, max_size=3).map(lambda parts: f"({'|'.join(parts)})"),
            st.tuples(inner, st.sampled_from(["?", "{2}", "{1,3}", "{0,2}"])).map(lambda pair: f"({pair[0]}){pair[1]}"),
        ),
        max_leaves=6,
    )


@settings(max_examples=12)
@given(expressions=st.lists(_regexes(), min_size=8, max_size=8))
def test_a_text_matches_its_expression(llm: LLM, expressions: list[str]) -> None:
    found = texts(llm, *(params(StructuredOutputs(regex=one), seed=7) for one in expressions))
    for expression, text in zip(expressions, found, strict=True):
        assert re.fullmatch(expression, text), (expression, text)


# Every token makes it harder to follow, until the limits are met: that cannot be seen before.
WILD = {"structured_outputs": StructuredOutputs(grammar='start: a{0,20000}\na: "x"?')}
NO_END = {"logit_bias": dict.fromkeys(ENDS, -100)}


def test_what_goes_wrong_with_one_leaves_the_others_unchanged(model: Path) -> None:
    load = [
        submit("wild", [5], max_tokens=200, **WILD, **NO_END),
        submit("pair", [5], max_tokens=200, **WILD, **NO_END, n=2),
        submit("free", [5], max_tokens=30),
        submit("bound", [6], max_tokens=300, structured_outputs=ANIMAL),
    ]
    engine, found = engine_for(model, deterministic=True), []
    for commands in (load, load[2:]):
        found.append(run(engine, commands, check=False))
        engine.heap.check()
    engine.close()
    together, alone = found
    assert set(together.errors) == {"wild", "pair#0", "pair#1"}
    assert all(words.startswith("structured_outputs: ") for words in together.errors.values())
    assert {name: together.finish[name] for name in together.errors} == dict.fromkeys(together.errors, "error")
    assert {name: together.tokens[name] for name in alone.tokens} == alone.tokens


@pytest.mark.parametrize("neighbours", [(), ("free",)])
def test_a_grammar_that_ends_by_itself_fails_no_step(model: Path, neighbours: tuple[str, ...]) -> None:
    """The step after its end is planned already, and may have no other text in it that keeps to a grammar."""
    load = [submit(name, [6], max_tokens=30, ignore_eos=True) for name in neighbours]
    load.append(submit("ends", [5], max_tokens=300, structured_outputs=StructuredOutputs(choice=("yes", "no"))))
    engine = engine_for(model, pipeline_depth=2)
    found = run(engine, load)
    assert found.finish["ends"] == "stop"
    assert (engine.counters.failed_steps, engine.scheduler.trials.retried) == (0, 0)
    engine.close()


def test_the_offline_api_says_what_went_wrong(llm: LLM) -> None:
    with pytest.raises(RequestFailedError, match=r"^structured_outputs: "):
        llm.generate("x", SamplingParams(max_tokens=200, **WILD, **NO_END), use_tqdm=False)
    check_animal(texts(llm, params(seed=1))[0])


@pytest.mark.parametrize("kind", tokenizer_dirs.KINDS)
def test_tokenizers_of_each_kind(kind: str, tmp_path: Path) -> None:
    tokenizer_dirs.save(kind, tmp_path)
    ids = tokenizer_dirs.build(kind).encode("hello", add_special_tokens=False).ids
    compiled = CompiledGrammars(tmp_path, 1000, ENDS)
    outputs = StructuredOutputs(regex=" ?hello")
    if kind in {"metaspace", "words"}:
        with pytest.raises(GrammarError, match="tokenizer cannot be used"):
            compiled.matcher(outputs)
        return
    matcher = compiled.matcher(outputs)
    assert matcher.consume_tokens(ids)
    assert matcher.is_accepting()
    assert not compiled.matcher(outputs).is_accepting(), "each has its own"


def test_a_model_without_the_files_or_an_end_token(tmp_path: Path) -> None:
    outputs = StructuredOutputs(regex="a")
    for directory in (None, tmp_path):
        with pytest.raises(GrammarError):
            CompiledGrammars(directory, 1000, ENDS).matcher(outputs)
    tokenizer_dirs.save("byte-level", tmp_path)
    with pytest.raises(GrammarError, match="no end token"):
        CompiledGrammars(tmp_path, 1000, (999,)).matcher(outputs)


# ---- through a server


@pytest.fixture(scope="module")
def server(model: Path) -> Iterator[Server]:
    flags = ("--dtype", "float32", "--kv-cache-memory", "16MiB", "--threads", "1", "--served-model-name", "real")
    with serving(model, *flags) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as opened:
        yield opened


MESSAGES = [{"role": "user", "content": "hello"}]


def test_openai_parses_into_a_model(client: openai.OpenAI) -> None:
    answer = client.chat.completions.parse(model="real", messages=MESSAGES, response_format=Animal, seed=1)
    assert isinstance(answer.choices[0].message.parsed, Animal)


def test_openai_streams_into_a_model(client: openai.OpenAI) -> None:
    asked = {"model": "real", "messages": MESSAGES, "response_format": Animal, "seed": 1}
    with client.chat.completions.stream(**asked) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion().choices[0].message.parsed
    assert "content.delta" in kinds
    assert final == client.chat.completions.parse(**asked).choices[0].message.parsed


@pytest.mark.parametrize(("body", "pattern"), [
    ({"response_format": {"type": "regex", "pattern": "[ab]{4}"}}, "[ab]{4}"),
    ({"response_format": {"type": "json_object"}}, r"\{[\s\S]*"),
    ({"structured_outputs": {"choice": ["yes", "no"]}}, "yes|no"),
    ({"structured_outputs": {"regex": "[0-9]{2}"}}, "[0-9]{2}"),
    ({"structured_outputs": {"grammar": 'start: "a"~3'}}, "aaa"),
    ({"structured_outputs": {"json": {"enum": ["x"]}}, "response_format": {"type": "text"}}, '"x"'),
    ({"structured_outputs": {"json": json.dumps({"enum": ["y"]}), "disable_any_whitespace": False}}, '"y"'),
    ({"structured_outputs": {"json_object": True}}, r"\{[\s\S]*"),
])  # fmt: skip
def test_every_field_is_served(client: openai.OpenAI, body: dict[str, Any], pattern: str) -> None:
    text = client.completions.create(model="real", prompt="hello", max_tokens=30, extra_body=body).choices[0].text
    assert re.fullmatch(pattern, text)


def test_what_fails_on_the_way_fails_alone(server: Server) -> None:
    grammar = WILD["structured_outputs"].grammar
    body = {"prompt": "x", "max_tokens": 200, "structured_outputs": {"grammar": grammar}, **NO_END}
    answer = server.http.post("/v1/completions", json=body)
    assert answer.status_code == 503
    assert answer.json()["error"]["message"].startswith("structured_outputs: ")
    assert server.http.get("/health").status_code == 200
    server.wait_until_idle()
