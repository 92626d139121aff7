"""RAG: questions about documents that were found for them, the popular ones again and again."""

from dataclasses import dataclass

from infergc.sim.draws import Draws, Popularity
from infergc.sim.requests import TraceRequest
from infergc.sim.workloads.knobs import Workload, WorkloadError, knob
from infergc.sim.workloads.texts import BLOCK, Ids, whole_blocks


class _Shelf:
    """Blocks of documents in their order; ids are given when a document is first asked for after those before it."""

    def __init__(self, ids: Ids, sizes: list[int]) -> None:
        self._ids, self._sizes = ids, sizes
        self._known: dict[tuple[int, ...], tuple[int, ...]] = {(): ()}

    def blocks(self, documents: tuple[int, ...]) -> tuple[int, ...]:
        """Blocks of a prompt's beginning."""
        if documents not in self._known:
            before = self.blocks(documents[:-1])
            self._known[documents] = before + self._ids.blocks(self._sizes[documents[-1]])
        return self._known[documents]


@dataclass(frozen=True)
class Rag(Workload):
    """Prompts of several documents and a question.

    The documents of a prompt stand in the order in which they were drawn. One that follows other documents is
    another text for an exact prefix cache, so its blocks have ids of their own there.
    """

    documents: int = knob(1000, 1, 2**20, "different documents")
    each: int = knob(3, 1, 32, "documents in a prompt, all different")
    zipf: float = knob(1.0, 0.0, 4.0, "exponent of their popularity, 0 for all alike")
    document: int = knob(512, 1, 2**20, "mean tokens of a document")
    question: int = knob(50, 1, 2**20, "mean tokens of a question")
    output: int = knob(200, 1, 2**20, "mean tokens of an output")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.each > self.documents:
            raise WorkloadError(f"each: {self.each} is not allowed; there are {self.documents} documents")
        if self.each * BLOCK > self.context // 2:
            most = self.context // 2 // BLOCK
            raise WorkloadError(f"each: {self.each} is not allowed; half the context has room for {most} documents")

    def generate(self) -> list[TraceRequest]:
        """The requests, by arrival. Documents have at most half the context together, in whole blocks."""
        draws, ids = Draws("rag", self.seed), Ids()
        popularity = Popularity(self.documents, self.zipf)
        most = self.context // 2 // self.each // BLOCK * BLOCK
        shelf = _Shelf(ids, [whole_blocks(self.length(draws, self.document, most)) for _ in range(self.documents)])
        made: list[TraceRequest] = []
        for arrival in self.arrivals(draws):
            found: list[int] = []
            while len(found) < self.each:
                found.append(popularity.draw(draws, found))
            text = ids.text(shelf.blocks(tuple(found)))
            text.grow(self.length(draws, self.question, self.context // 4))
            output = self.length(draws, self.output, self.context // 4)
            made.append(TraceRequest(arrival, text.length, output, text.blocks(), BLOCK))
        return made
