"""Chat: people talk in turns, think in between, and all begin with one system prompt."""

from dataclasses import dataclass

from infergc.sim.draws import Draws
from infergc.sim.requests import TraceRequest
from infergc.sim.workloads.conversations import Conversation, Manner, by_arrival
from infergc.sim.workloads.knobs import Workload, knob
from infergc.sim.workloads.texts import Ids, shared_blocks


@dataclass(frozen=True)
class Chat(Workload):
    """Conversations of several turns; a turn's prompt holds all earlier turns and their answers."""

    system: int = knob(200, 0, 2**20, "tokens of the system prompt that all conversations share")
    again: float = knob(0.7, 0.0, 0.99, "probability of another turn after each")
    question: int = knob(100, 1, 2**20, "mean tokens that a person says in a turn")
    answer: int = knob(200, 1, 2**20, "mean tokens of an answer")
    think: float = knob(20.0, 0.0, 86400.0, "mean seconds from an answer's end to the next question")
    speed: float = knob(30.0, 0.1, 1e6, "tokens a second at which answers are taken to come")

    def generate(self) -> list[TraceRequest]:
        """The requests, by arrival. Each conversation is a session."""
        draws, ids = Draws("chat", self.seed), Ids()
        system = shared_blocks(self, ids, "system", self.system)
        manner = Manner(self.again, self.question, self.question, self.answer, self.think, self.speed)
        return by_arrival(
            draws,
            self,
            1 / (1 - self.again),
            lambda number: Conversation(self, manner, ids.text(system), f"chat-{number}"),
        )
