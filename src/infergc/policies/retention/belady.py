"""Belady's MIN: what comes again last goes first. It needs the future, so it is a bound for other policies."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from infergc.heap.marks import marks_in, marks_of_prompt
from infergc.heap.nodes import I32, U64, Namespace, Node
from infergc.heap.retention import Retention
from infergc.policies.retention.alike import alike_at_end

Asked = tuple[str, I32]  # a tenant's salt, a prompt

_NEVER = np.iinfo(np.int32).max


class Belady(Retention):
    """Reclaim the leaf whose last page the prompts to come need last, or never again.

    A page's children come again no sooner than it does, so what comes again last can always go (Belady, "A study of
    replacement algorithms for a virtual-storage computer", IBM Systems Journal 5(2), 1966). It is a bound where prompts
    come one by one in a known order, not where several run at a time.

    Args:
        prompts: all that will come, in order; read once, when the first does. Memory: 28 bytes a page of them.
    """

    eager = True

    def __init__(self, prompts: Iterable[Asked]) -> None:
        self._prompts = prompts
        self._future: _Future | None = None

    def begin(self, pages: int, page_tokens: int) -> None:  # noqa: ARG002 - a bound needs not know the pool
        """Nothing came yet."""
        self._page_tokens = page_tokens

    def asked(self, namespace: Namespace, prompt: I32) -> None:
        """Its pages wait for their next use. Cost: O(prompt) array work; the first time, sorting all prompts' pages.

        Raises:
            ValueError: it is not among the prompts that were to come.
        """
        if self._future is None:
            each = (self._marks(Namespace(namespace.model, salt), tokens) for salt, tokens in self._prompts)
            self._future = _Future(list(each))
        self._future.pass_by(self._marks(namespace, prompt))

    def rank(self, node: Node) -> float:
        """What comes again last is first to go."""
        return -float(self._nexts(node, 1)[0])

    def span(self, node: Node, pages: int) -> int:
        """Pages at the end that come again at the same time."""
        nexts = self._nexts(node, pages)
        return alike_at_end(pages, lambda place: -int(nexts[-1 - place]))

    def _nexts(self, node: Node, pages: int) -> NDArray[np.int32]:
        assert self._future is not None, "what is cached was asked for"
        return self._future.nexts(marks_in(node)[-pages:])

    def _marks(self, namespace: Namespace, prompt: I32) -> U64:
        return marks_of_prompt(namespace, prompt, self._page_tokens)


class _Future:
    """When each page is asked for next, as prompts pass by.

    Args:
        prompts: marks of each prompt's pages.
    """

    def __init__(self, prompts: list[U64]) -> None:
        lengths = np.array([len(marks) for marks in prompts], np.int64)
        self._ends = np.cumsum(lengths)
        every = np.concatenate([*prompts, np.empty(0, np.uint64)])
        self._known, which = np.unique(every, return_inverse=True)
        self._which: NDArray[np.int32] = which.astype(np.int32)
        self._then = _next_of_each(self._which, np.repeat(np.arange(len(prompts), dtype=np.int32), lengths))
        self._next = np.full(len(self._known), _NEVER, np.int32)
        self._at = 0  # the prompt that is expected

    def pass_by(self, marks: U64) -> None:
        """The next prompt with these marks is asked for; those before it never were."""
        while self._at < len(self._ends):
            low, high = self._ends[self._at - 1] if self._at else 0, self._ends[self._at]
            which = self._which[low:high]
            self._at += 1
            if np.array_equal(self._known[which], marks):
                self._next[which] = self._then[low:high]
                return
        raise ValueError("a prompt came that was not foreseen")

    def nexts(self, marks: U64) -> NDArray[np.int32]:
        """The number of the next prompt with each of these pages. Cost: O(log pages) each."""
        if not len(self._known):
            return np.full(len(marks), _NEVER, np.int32)
        places = np.minimum(np.searchsorted(self._known, marks), len(self._known) - 1)
        nexts: NDArray[np.int32] = np.where(self._known[places] == marks, self._next[places], _NEVER).astype(np.int32)
        return nexts


def _next_of_each(which: NDArray[np.int32], prompt: NDArray[np.int32]) -> NDArray[np.int32]:
    """Of each asking of a page, the number of the prompt that asks for it next. Cost: a stable sort.

    Args:
        which: the page, [askings] in order of time.
        prompt: the number of the prompt that asks, [askings].
    """
    order = np.argsort(which, kind="stable")
    same = which[order][1:] == which[order][:-1]
    then = np.full(len(which), _NEVER, np.int32)
    then[order[:-1][same]] = prompt[order[1:][same]]
    return then
