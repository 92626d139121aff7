"""Agents: programs that call tools, many short turns with long additions, close to each other."""

from dataclasses import dataclass

from infergc.sim.draws import Draws, Popularity
from infergc.sim.requests import TraceRequest
from infergc.sim.workloads.conversations import Conversation, Manner, by_arrival
from infergc.sim.workloads.knobs import Workload, knob
from infergc.sim.workloads.texts import Ids, shared_blocks


@dataclass(frozen=True)
class Agents(Workload):
    """Long sessions: each turn appends what a tool returned, and answers with the next call."""

    context: int = knob(32768, 64, 2**20, "tokens, the most that a prompt and its output have together")
    kinds: int = knob(3, 1, 2**16, "agents of different instructions, the first the most popular by Zipf's law")
    system: int = knob(1500, 0, 2**20, "tokens of the instructions and tools that agents of a kind share")
    task: int = knob(300, 1, 2**20, "mean tokens of a task")
    turns: int = knob(15, 1, 10_000, "mean turns of a session")
    result: int = knob(400, 1, 2**20, "mean tokens that a tool returns")
    answer: int = knob(60, 1, 2**20, "mean tokens of an answer")
    tool: float = knob(2.0, 0.0, 86400.0, "mean seconds that a tool takes")
    speed: float = knob(30.0, 0.1, 1e6, "tokens a second at which answers are taken to come")

    def generate(self) -> list[TraceRequest]:
        """The requests, by arrival. Each task is a session."""
        draws, ids = Draws("agents", self.seed), Ids()
        systems = [shared_blocks(self, ids, "system", self.system) for _ in range(self.kinds)]
        popularity = Popularity(self.kinds, 1.0)
        manner = Manner(1 - 1 / self.turns, self.task, self.result, self.answer, self.tool, self.speed)

        def begin(number: int) -> Conversation:
            return Conversation(self, manner, ids.text(systems[popularity.draw(draws)]), f"agent-{number}")

        return by_arrival(draws, self, self.turns, begin)
