"""System prompts: single requests, most of which begin with one of a few long prompts."""

from dataclasses import dataclass

from infergc.sim.draws import Draws, Popularity
from infergc.sim.requests import TraceRequest
from infergc.sim.workloads.knobs import Workload, knob
from infergc.sim.workloads.texts import BLOCK, Ids, shared_blocks


@dataclass(frozen=True)
class SystemPrompts(Workload):
    """Applications that put their instructions in front of each request, and tails that nobody shares."""

    prompts: int = knob(8, 1, 2**16, "different system prompts")
    zipf: float = knob(1.0, 0.0, 4.0, "exponent of their popularity, 0 for all alike")
    share: float = knob(1.0, 0.0, 1.0, "of the requests that begin with one; the others share nothing")
    system: int = knob(1024, 0, 2**20, "tokens of each system prompt")
    tail: int = knob(200, 1, 2**20, "mean tokens after it")
    output: int = knob(200, 1, 2**20, "mean tokens of an output")

    def generate(self) -> list[TraceRequest]:
        """The requests, by arrival. Without a system prompt, as many tokens more are private."""
        draws, ids = Draws("system-prompts", self.seed), Ids()
        systems = [shared_blocks(self, ids, "system", self.system) for _ in range(self.prompts)]
        popularity = Popularity(self.prompts, self.zipf)
        made: list[TraceRequest] = []
        for arrival in self.arrivals(draws):
            shared = systems[popularity.draw(draws)]
            text = ids.text(shared if draws.chance(self.share) else ids.blocks(len(shared) * BLOCK))
            room = (self.context - text.length) // 2
            text.grow(self.length(draws, self.tail, room))
            output = self.length(draws, self.output, room)
            made.append(TraceRequest(arrival, text.length, output, text.blocks(), BLOCK))
        return made
