"""The offline API under the simulated executor: prompts, results, ways to end, what an error leaves behind."""

import gc
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import infergc
from infergc import LLM, SamplingParams
from infergc.client import RequestFailedError
from infergc.config import ConfigError
from infergc.params import ParameterError
from infergc.text.chat import ConversationError
from samples import served_model, slow_sim

SIM = "infergc.sim.executor:create_executor"


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LLM]:
    with LLM(served_model.save(tmp_path_factory.mktemp("served")), executor=SIM) as made:
        yield made


def params(**settings: Any) -> SamplingParams:
    return SamplingParams(**{"max_tokens": 10, "ignore_eos": True, "seed": 1, **settings})


def test_results_are_in_order_and_complete(llm: LLM) -> None:
    prompts = ["hello", {"prompt": "the quick"}, {"prompt_token_ids": [5, 6, 7]}]
    asked = [params(max_tokens=n) for n in (30, 3, 9)]
    results = llm.generate(prompts, asked, use_tqdm=False)
    assert [len(result.outputs[0].token_ids) for result in results] == [30, 3, 9]
    assert [result.prompt for result in results] == ["hello", "the quick", None]
    assert results[2].prompt_token_ids == [5, 6, 7]
    assert results[0].prompt_token_ids == llm.get_tokenizer().encode("hello")
    assert len({result.request_id for result in results}) == 3
    for result in results:
        (output,) = result.outputs
        assert result.finished
        assert (output.index, output.finish_reason, output.stop_reason) == (0, "length", None)
        expected = llm.get_tokenizer().decode([9, *output.token_ids])
        assert expected.endswith(output.text)
        assert output.logprobs is output.cumulative_logprob is None


def test_one_prompt_needs_no_list_and_no_params(llm: LLM) -> None:
    (result,) = llm.generate("hello", use_tqdm=False)
    assert 1 <= len(result.outputs[0].token_ids) <= 16
    assert llm.generate([], use_tqdm=False) == []


@pytest.mark.parametrize("wrong", ["x", ["x"], 5, {"max_tokens": 5}, {}, [{"max_tokens": 5}]])
def test_what_is_no_sampling_parameters_is_named(llm: LLM, wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"^sampling_params: takes SamplingParams, or a list with one for each prompt"):
        llm.generate("a", wrong, use_tqdm=False)


def test_more_prompts_than_fit_in_a_step(llm: LLM) -> None:
    results = llm.generate([f"prompt {n}" for n in range(200)], params(), use_tqdm=False)
    assert all(len(result.outputs[0].token_ids) == 10 for result in results)


def test_a_prefix_that_was_seen_is_cached(llm: LLM) -> None:
    prompt = {"prompt_token_ids": list(range(10, 60))}
    cold, warm = (llm.generate(prompt, params(), use_tqdm=False)[0].num_cached_tokens for _ in range(2))
    assert cold == 0
    assert 48 <= warm < 50


def test_a_stop_string_ends_the_text_and_frees_the_request(llm: LLM) -> None:
    text = llm.generate("hello", params(max_tokens=100), use_tqdm=False)[0].outputs[0].text
    stop = text[len(text) // 2 :][:4]
    (output,) = llm.generate("hello", params(max_tokens=100, stop=stop), use_tqdm=False)[0].outputs
    assert output.text == text[: text.index(stop)]
    assert (output.finish_reason, output.stop_reason) == ("stop", stop)
    assert len(output.token_ids) < 100
    assert llm.stats["kv"]["full"]["live"] == 0


def test_pythons_collector_is_the_users_again_after_each_run_and_after_close(tmp_path: Path) -> None:
    before = gc.get_threshold(), list(gc.callbacks), gc.get_freeze_count()
    with LLM(served_model.save(tmp_path / "served"), executor=SIM) as llm:
        assert (gc.get_threshold(), gc.callbacks, gc.get_freeze_count()) == before
        pieces = llm.stream("hello", params())
        next(pieces)
        assert gc.get_threshold()[2] > before[0][2], "no full collection starts by itself while a run goes on"
        assert gc.get_freeze_count() == before[2], "what is the user's may die in a cycle"
        assert list(pieces)
        assert (gc.get_threshold(), gc.callbacks) == before[:2]
        assert set(llm.stats["python_gc"]["runs"]) == {"idle", "overdue"}
        left_open = llm.stream("hello", params())
        next(left_open)
    assert (gc.get_threshold(), gc.callbacks, gc.get_freeze_count()) == before
    del left_open
    assert (gc.get_threshold(), gc.callbacks, gc.get_freeze_count()) == before


def test_the_same_program_gets_the_same_tokens(tmp_path: Path) -> None:
    def texts(seed: int) -> list[str]:
        with LLM(served_model.save(tmp_path), executor=SIM, seed=seed) as fresh:
            results = fresh.generate(["a", "a"], SamplingParams(), use_tqdm=False)
            return [result.outputs[0].text for result in results]

    first = texts(0)
    assert first == texts(0) != texts(1)
    assert first[0] != first[1]


def test_streams_say_the_same_and_may_be_left(llm: LLM) -> None:
    whole = llm.generate("hello", params(max_tokens=50), use_tqdm=False)[0].outputs[0].text
    assert "".join(piece.text for piece in llm.stream("hello", params(max_tokens=50))) == whole
    pieces = llm.stream("hello", params(max_tokens=50))
    next(pieces)
    with pytest.raises(RuntimeError, match="another generation"):
        llm.generate("hello", use_tqdm=False)
    pieces.close()
    assert llm.stats["kv"]["full"]["live"] == 0
    assert llm.generate("hello", params(max_tokens=50), use_tqdm=False)[0].outputs[0].text == whole


def test_chat(llm: LLM) -> None:
    conversation = [{"role": "user", "content": "hello"}]
    one = llm.chat(conversation, params(), use_tqdm=False)
    two = llm.chat([conversation, conversation], params(), use_tqdm=False)
    assert len(one) == 1
    assert [result.outputs[0].text for result in two] == [one[0].outputs[0].text] * 2
    text = llm.get_tokenizer().decode(one[0].prompt_token_ids, skip_special_tokens=False)
    assert text == "<|turn|>user: hello<|turn|>assistant:"
    assert "".join(piece.text for piece in llm.stream_chat(conversation, params())) == one[0].outputs[0].text
    with pytest.raises(ConversationError, match="the user speaks first"):
        llm.chat([{"role": "assistant", "content": "a"}], use_tqdm=False)


@pytest.mark.parametrize(
    ("prompts", "given", "field"),
    [
        ("", None, "prompt"),
        (["a", ""], None, "prompt"),
        ("a", SamplingParams(max_tokens=served_model.CONTEXT), "max_tokens"),
        ([5, 6], None, "prompts"),
        ([{"text": "a"}], None, "prompts"),
        ([{"prompt": "a", "image": "b"}], None, "prompts"),
        ([{"prompt_token_ids": []}], None, "prompt"),
        ([{"prompt_token_ids": [10**6]}], None, "prompt"),
        ({"prompt_token_ids": [5] * served_model.CONTEXT}, None, "prompt"),
        (["a", "b"], [SamplingParams()], "sampling_params"),
    ],
)
def test_bad_prompts_are_named_and_start_nothing(llm: LLM, prompts: Any, given: Any, field: str) -> None:
    with pytest.raises(ParameterError) as refused:
        llm.generate(prompts, given, use_tqdm=False)
    assert refused.value.field == field
    assert len(llm.generate("a", params(), use_tqdm=False)) == 1


def test_what_is_no_prompt_at_all_is_a_type_error(llm: LLM) -> None:
    with pytest.raises(TypeError, match=r"^prompts: takes a string, .* or a list of these, not 5$"):
        llm.generate(5, use_tqdm=False)


def test_a_failed_request_is_an_error_and_frees_the_others(tmp_path: Path) -> None:
    with LLM(served_model.save(tmp_path), executor=slow_sim.NAME) as fragile:
        prompts = [{"prompt_token_ids": [first, 9]} for first in (5, slow_sim.FAILS)]
        with pytest.raises(RequestFailedError, match="out of memory, for a test"):
            fragile.generate(prompts, params(), use_tqdm=False)
        assert fragile.stats["kv"]["full"]["live"] == 0
        assert fragile.generate(prompts[0], params(), use_tqdm=False)[0].finished


def test_ctrl_c_waits_for_the_step_and_leaves_the_engine_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timers: list[threading.Timer] = []
    launch = slow_sim.SlowSim.launch

    def launching(executor: slow_sim.SlowSim, plan: Any) -> Any:
        """The first step sets off the hand on the keyboard: before it, Ctrl-C would meet the test itself."""
        if timers[-1].ident is None:
            timers[-1].start()
        return launch(executor, plan)

    with LLM(served_model.save(tmp_path), executor=slow_sim.DAWDLING) as slow:
        for delay in (0.05, 0.0613, 0.0727):
            timers.append(threading.Timer(delay, os.kill, (os.getpid(), signal.SIGINT)))
            monkeypatch.setattr(slow_sim.SlowSim, "launch", launching)
            with pytest.raises(KeyboardInterrupt):
                slow.generate(["a", "b"], params(max_tokens=900), use_tqdm=False)
            timers[-1].join()
            monkeypatch.undo()
            assert slow.stats["requests"] == {"running": 0, "waiting": 0, "loading": 0}
            assert slow.stats["kv"]["full"]["live"] == 0
        assert slow.generate("a", params(), use_tqdm=False)[0].finished


def test_settings_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--block-size"):
        LLM(tmp_path, block_size=7)
    with pytest.raises(ConfigError, match=r"^bock_size: no such setting; did you mean block_size"):
        LLM(tmp_path, bock_size=16)
    with pytest.raises(ConfigError, match=r"^model: .*nowhere is not a directory"):
        LLM(tmp_path / "nowhere")


def test_the_package_exports_what_it_says() -> None:
    assert infergc.LLM is LLM
    assert infergc.SamplingParams is SamplingParams
    assert {name for name in infergc.__all__ if hasattr(infergc, name)} == set(infergc.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        _ = infergc.nothing
