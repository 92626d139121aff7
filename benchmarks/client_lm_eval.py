"""lm-eval's ``local-completions`` against our server: a small task, with the prefix cache off and on, cold and warm.

    python benchmarks/client_lm_eval.py ENV [MODEL]

Two tasks are written from a seed: which of four words follows a text, by log probability, and a continuation. Under
``--deterministic`` the log probability of every answer must be the same number, and every continuation the same text,
in five runs: without a cache, with a cache that is empty, with a warm one, and each batch size once more. That warm
runs are warm is asked of the server's metrics. lm-eval sends ``echo: true, logprobs: 1, max_tokens: 1`` and ids.
"""

import json
import random
from pathlib import Path
from tempfile import TemporaryDirectory

from outside import SERVED, Client, client
from serving import Server, serving

QUESTIONS, SEED = 24, 8
WORDS = ["the", "old", "man", "sea", "captain", "whale", "ship", "house", "night", "letter", "friend", "king", "road",
         "mother", "garden", "storm", "said", "came", "went", "saw", "with", "from", "upon", "beside"]  # fmt: skip
BOTH = """dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
doc_to_text: "{{{{text}}}}"
"""
CHOICE = """task: choice
output_type: multiple_choice
doc_to_choice: choices
doc_to_target: answer
metric_list: [{metric: acc}]
"""
GENERATE = """task: generate
output_type: generate_until
doc_to_target: "{{target}}"
generation_kwargs: {until: ["."], max_gen_toks: 16, do_sample: false}
metric_list: [{metric: exact_match}]
"""
Answers = dict[str, list[object]]


def main() -> None:
    lm_eval = client(__doc__, "lm_eval")
    if lm_eval is None:
        return
    with TemporaryDirectory() as folder:
        into = Path(folder)
        write_tasks(into)
        flags = ("--served-model-name", SERVED, "--deterministic")
        with serving(lm_eval.model, *flags, "--no-enable-prefix-caching") as server:
            first, _ = evaluated(lm_eval, server, into, "cache off", batch=1)
        with serving(lm_eval.model, *flags) as server:
            for name, batch in (("cache on, cold", 1), ("cache on, warm", 1), ("cache on, warm, in batches", 8)):
                answers, hits = evaluated(lm_eval, server, into, name, batch)
                assert answers == first, f"{name}: {differences(first, answers)} answers differ"
                assert hits or "warm" not in name
        print(f"all {sum(map(len, first.values()))} answers are identical in every run")


def write_tasks(into: Path) -> None:
    """Texts with words in common, so that a cache has something to find; yaml and one JSON a line."""
    draw = random.Random(SEED)  # noqa: S311 - any words will do
    stem = " ".join(draw.choices(WORDS, k=60))
    rows = []
    for number in range(QUESTIONS):
        choices = draw.sample(WORDS, 4)
        text = f"{stem} {' '.join(draw.choices(WORDS, k=12))}"
        rows.append({"text": text, "choices": choices, "answer": number % 4, "target": choices[0]})
    data = into / "questions.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, task in (("choice", CHOICE), ("generate", GENERATE)):
        (into / f"{name}.yaml").write_text(BOTH.format(data=data) + task)


def evaluated(lm_eval: Client, server: Server, into: Path, name: str, batch: int) -> tuple[Answers, float]:
    """One run: each answer, and the tokens that came from the cache."""
    before = server.metric("vllm:prefix_cache_hits")
    out = into / name.replace(" ", "-")
    place = f"base_url={server.url}/v1/completions,num_concurrent=4"
    model = f"model={SERVED},{place},tokenizer={lm_eval.model},tokenizer_backend=huggingface"
    lm_eval.run("-m", "lm_eval", "run", "--model", "local-completions", "--model_args", model,
                "--tasks", "choice,generate", "--include_path", into, "--batch_size", str(batch),
                "--output_path", out, "--log_samples", into=into)  # fmt: skip
    answers = {task: samples(out, task) for task in ("choice", "generate")}
    hits = server.metric("vllm:prefix_cache_hits") - before
    (results,) = out.rglob("results_*.json")
    accuracy = json.loads(results.read_text())["results"]["choice"]["acc,none"]
    print(f"{name}: accuracy {accuracy:.3f}, {hits:.0f} prompt tokens from the cache", flush=True)
    return answers, hits


def samples(out: Path, task: str) -> list[object]:
    """What was answered to each question, in the questions' order: log probabilities, or a text."""
    (file,) = out.rglob(f"samples_{task}_*.jsonl")
    lines = sorted((json.loads(line) for line in file.read_text().splitlines()), key=lambda line: line["doc_id"])
    assert len(lines) == QUESTIONS, len(lines)
    return [line["filtered_resps"] for line in lines]


def differences(first: Answers, second: Answers) -> int:
    pairs = ((one, other) for task in first for one, other in zip(first[task], second[task], strict=True))
    return sum(one != other for one, other in pairs)


if __name__ == "__main__":
    main()
