"""What client_litellm.py asks for: each function is one thing that must work. Arguments: base URL, model."""

import asyncio
import json
import sys
from typing import Any

import litellm

BASE, MODEL = sys.argv[1:]
CHATS = ("openai", "hosted_vllm", "litellm_proxy")  # litellm's names for servers that speak the OpenAI API
USER = [{"role": "user", "content": "Once upon a time"}]
ASKED: dict[str, Any] = {"api_base": BASE, "api_key": "none", "max_tokens": 12, "seed": 1}
SCHEMA = {"type": "object", "properties": {"name": {"enum": ["ann", "bob"]}}, "required": ["name"],
          "additionalProperties": False}  # fmt: skip


def streamed_chats_are_the_whole_ones() -> None:
    for provider in CHATS:
        named = f"{provider}/{MODEL}"
        whole = litellm.completion(named, USER, **ASKED)
        chunks = list(litellm.completion(named, USER, stream=True, stream_options={"include_usage": True}, **ASKED))
        rebuilt = litellm.stream_chunk_builder(chunks, messages=USER)
        assert rebuilt.choices[0].message.content == whole.choices[0].message.content, provider
        assert rebuilt.usage.completion_tokens == whole.usage.completion_tokens == 12, provider
        assert rebuilt.usage.prompt_tokens == whole.usage.prompt_tokens, provider
        assert whole.choices[0].finish_reason == "length", provider


def streamed_texts_are_the_whole_ones() -> None:
    for provider in ("text-completion-openai", "hosted_vllm"):
        named = f"{provider}/{MODEL}"
        whole = litellm.text_completion(model=named, prompt="Once upon", **ASKED)
        chunks = litellm.text_completion(model=named, prompt="Once upon", stream=True, **ASKED)
        assert "".join(chunk.choices[0].text or "" for chunk in chunks) == whole.choices[0].text, provider


def an_answer_is_sent_back_as_it_came() -> None:
    message = litellm.completion(f"openai/{MODEL}", USER, **ASKED).choices[0].message
    for said in (message, message.model_dump()):
        second = litellm.completion(f"openai/{MODEL}", [*USER, said, *USER], **ASKED)
        assert second.usage.prompt_tokens_details.cached_tokens > 0


def choices_and_log_probabilities_come() -> None:
    answer = litellm.completion(f"openai/{MODEL}", USER, n=3, logprobs=True, top_logprobs=2, **ASKED)
    assert [len(choice.logprobs.content) for choice in answer.choices] == [12, 12, 12]
    assert all(len(token.top_logprobs) == 2 for token in answer.choices[0].logprobs.content)


def an_answer_follows_a_json_schema() -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "who", "schema": SCHEMA, "strict": True}}
    answer = litellm.completion(
        f"openai/{MODEL}", USER, response_format=wanted, **(ASKED | {"max_tokens": 400, "temperature": 0})
    )
    assert json.loads(answer.choices[0].message.content)["name"] in {"ann", "bob"}


def our_own_fields_pass() -> None:
    by_body = litellm.completion(f"openai/{MODEL}", USER, extra_body={"top_k": 1}, **ASKED)
    by_name = litellm.completion(f"hosted_vllm/{MODEL}", USER, top_k=1, **ASKED)
    assert by_body.choices[0].message.content == by_name.choices[0].message.content


def many_at_once_are_answered() -> None:
    async def ask() -> list[Any]:
        return await asyncio.gather(*(litellm.acompletion(f"openai/{MODEL}", USER, **ASKED) for _ in range(16)))

    assert len({answer.choices[0].message.content for answer in asyncio.run(ask())}) == 1, "one seed, one text"


def errors_have_their_classes() -> None:
    long = [{"role": "user", "content": "hello " * 20_000}]
    for kind, changed in (
        (litellm.BadRequestError, {"temperature": -3}),
        (litellm.NotFoundError, {"model": "openai/another"}),
        (litellm.ContextWindowExceededError, {"messages": long}),
        (litellm.Timeout, {"timeout": 0.01, "max_tokens": 2000, "max_retries": 0, "extra_body": {"ignore_eos": True}}),
    ):
        try:
            litellm.completion(**{"model": f"openai/{MODEL}", "messages": USER, **ASKED, **changed})
        except kind:
            continue
        raise AssertionError(f"no {kind.__name__}")


CHECKS = (
    streamed_chats_are_the_whole_ones,
    streamed_texts_are_the_whole_ones,
    an_answer_is_sent_back_as_it_came,
    choices_and_log_probabilities_come,
    an_answer_follows_a_json_schema,
    our_own_fields_pass,
    many_at_once_are_answered,
    errors_have_their_classes,
)


def main() -> None:
    litellm.suppress_debug_info = True
    for check in CHECKS:
        check()
        print(check.__name__.replace("_", " "), flush=True)


if __name__ == "__main__":
    main()
