"""vLLM's scheduler and KV manager in the mission's scenarios: a workload comes in on stdin, figures go out.

    infergc bench scenarios --peer "vllm-env/bin/python benchmarks/peers/run_vllm_scenarios.py"

An order is a line of JSON: ``requests``, each [arrival, input tokens, output tokens, block ids, tokens in a block];
``pages``, ``block_size``, ``running`` (most sequences), ``batched_tokens``, ``longest`` (tokens of a text), ``limits``
({seconds, preempted}, at which the run stops), ``model`` and ``device`` by name. Steps take what our cost model says.
The answer is a line with the fields of ``infergc.bench.scenarios.outcome.Outcome``, but for ``requests``.
"""

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from math import inf
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "src"))  # our cost model: numpy alone

import numpy as np
from run_vllm_control import is_at_its_end, made

from infergc.bench.scenarios.plain import step_plan
from infergc.sim.catalog import MODELS
from infergc.sim.cost import Roofline
from infergc.sim.devices import DEVICES
from infergc.sim.geometry import Geometry
from infergc.sim.requests import TraceRequest

TOKEN = 7  # that every step "samples": outputs are told apart by their prompts
VOCAB = 2**31 - 1  # block ids stand for tokens


def main() -> None:
    """Answer order after order."""
    os.environ.update(VLLM_LOGGING_LEVEL="ERROR", HF_HUB_OFFLINE="1")
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what vLLM prints is no answer
    for line in sys.stdin:
        order = json.loads(line)
        with tempfile.TemporaryDirectory() as folder:
            replies.write(json.dumps(Served(order, folder).figures()) + "\n")


class Served:
    """One workload, served in simulated time."""

    def __init__(self, order: dict[str, Any], folder: str) -> None:
        geometry = MODELS[order["model"]]
        shape = hf_config(geometry, order["longest"])
        Path(folder, "config.json").write_text(json.dumps(shape))
        usable = {**order, "model": shape, "pages": order["pages"] + 1}  # one is vLLM's null block
        self.scheduler, self.hasher = made(usable, folder)
        self.cost = Roofline(geometry, DEVICES[order["device"]])
        self.page_bytes = order["block_size"] * geometry.kv_bytes_per_token
        self.pages, self.limits = order["pages"], order["limits"]
        self.longest, self.to_come = order["longest"], [TraceRequest(*row) for row in order["requests"]]
        self.now, self.peak, self.steps, self.finished, self.output, self.preemptions = 0.0, 0, 0, 0, 0, 0
        self.preempted: set[str] = set()
        self.came = self.gone = 0  # requests; preemptions of those that have ended

    def figures(self) -> dict[str, Any]:
        """Run to the end, or until the limits are broken."""
        whole = all(self.keeps_limits() for _ in self.run()) and self.finished == len(self.to_come)
        return {
            "finished": self.finished, "seconds": self.now, "output_tokens": self.output,
            "peak_bytes": self.peak * self.page_bytes, "preempted": len(self.preempted),
            "preemptions": self.preemptions, "whole": whole,
        }  # fmt: skip

    def keeps_limits(self) -> bool:
        """Whether the run may go on."""
        most = self.limits
        return self.now <= most.get("seconds", inf) and len(self.preempted) <= most.get("preempted", inf)

    def run(self) -> Iterator[None]:
        """Step after step. It ends when all is done, or when nothing can ever go on."""
        while self.came < len(self.to_come) or self.scheduler.has_unfinished_requests():
            if not self.scheduler.has_unfinished_requests():
                self.now = max(self.now, self.to_come[self.came].arrival)
            self.arrive()
            if not self.step():
                return
            yield

    def arrive(self) -> None:
        """Hand in what has come by now."""
        from vllm.sampling_params import SamplingParams
        from vllm.v1.request import Request

        while self.came < len(self.to_come) and self.to_come[self.came].arrival <= self.now:
            coming = self.to_come[self.came]
            params = SamplingParams(max_tokens=coming.output_len, ignore_eos=True, temperature=0.0)
            prompt = coming.prompt(self.came).tolist()
            self.scheduler.add_request(Request(str(self.came), prompt, params, None, block_hasher=self.hasher))
            self.came += 1

    def step(self) -> bool:
        """Plan, let time go on, and book; False if nothing could be planned."""
        from vllm.v1.outputs import ModelRunnerOutput

        plan = self.scheduler.schedule()
        names = list(plan.num_scheduled_tokens)
        if not names:
            return False
        self.look()
        requests = [self.scheduler.requests[name] for name in names]
        ends = [is_at_its_end(request) for request in requests]
        counts = np.array(list(plan.num_scheduled_tokens.values()), np.int32)
        computed = np.array([request.num_computed_tokens for request in requests], np.int32)
        self.now += self.cost.seconds(step_plan(self.steps, computed - counts, counts, np.array(ends)))
        self.steps += 1
        sampled = [[TOKEN] if at_end else [] for at_end in ends]
        output = ModelRunnerOutput(names, {name: row for row, name in enumerate(names)}, sampled_token_ids=sampled)
        self.scheduler.update_from_output(plan, output)
        done = [request for request in requests if request.is_finished()]
        self.finished += len(done)
        self.gone += sum(request.num_preemptions for request in done)
        self.output += sum(request.num_output_tokens for request in done)
        return True

    def look(self) -> None:
        """What live requests hold, and who was preempted."""
        free = self.scheduler.kv_cache_manager.block_pool.get_num_free_blocks()
        self.peak = max(self.peak, self.pages - free)
        again = [request for request in self.scheduler.requests.values() if request.num_preemptions]
        self.preempted.update(request.request_id for request in again)
        self.preemptions = self.gone + sum(request.num_preemptions for request in again)


def hf_config(geometry: Geometry, longest: int) -> dict[str, Any]:
    """The config.json that vLLM reads of such a model."""
    return {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": geometry.dtype,
        "hidden_size": geometry.hidden, "intermediate_size": geometry.ffn, "num_hidden_layers": geometry.layers,
        "num_attention_heads": geometry.heads, "num_key_value_heads": geometry.kv_heads,
        "head_dim": geometry.head_dim, "vocab_size": VOCAB, "max_position_embeddings": longest + 1,
    }  # fmt: skip


if __name__ == "__main__":
    main()
