"""Beams: requests that ask for a beam search each."""

from dataclasses import dataclass

from infergc.sim.draws import Draws
from infergc.sim.requests import TraceRequest
from infergc.sim.workloads.knobs import Workload, knob
from infergc.sim.workloads.texts import BLOCK, Ids


@dataclass(frozen=True)
class Beams(Workload):
    """Prompts that share nothing with each other; what is shared is shared by the hypotheses of a search."""

    width: int = knob(4, 1, 128, "hypotheses of a search, all of which are returned")
    prompt: int = knob(512, 1, 2**20, "mean tokens of a prompt")
    output: int = knob(128, 1, 2**20, "mean tokens of a hypothesis")

    def generate(self) -> list[TraceRequest]:
        """The requests, by arrival."""
        draws, ids = Draws("beams", self.seed), Ids()
        made: list[TraceRequest] = []
        for arrival in self.arrivals(draws):
            length = self.length(draws, self.prompt, self.context // 2)
            output = self.length(draws, self.output, self.context // 2)
            blocks = ids.blocks(length)
            made.append(TraceRequest(arrival, length, output, blocks, BLOCK, choices=self.width, beam=True))
        return made
