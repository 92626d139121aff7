"""What of a text lies below the device, and what is kept there for requests that wait."""

from collections.abc import Iterator
from collections.abc import Sequence as SequenceOf

from infergc.heap.keeping import Keeping
from infergc.heap.keys import behind, keys_in, root_key
from infergc.heap.moves import I32
from infergc.heap.names import PageName, names_behind
from infergc.heap.nodes import Namespace
from infergc.heap.objects import Sequence


class Lowering(Keeping):
    """The part of the heap that looks into the tiers below the device."""

    def below(self, namespace: Namespace, tokens: I32) -> tuple[int, list[PageName]]:
        """How many whole pages of a text the prefix tree has, and those behind them that the host tier has.

        ``restore`` gives them to a sequence that shares just those of the tree, in the same planning.
        Cost: as ``stream``, and as ``Tiers.below``.
        """
        if self.tiers is None or not self.config.prefix_caching:
            return 0, []
        pages, names = self.stream(namespace, tokens)
        return pages, self.tiers.below(names)

    def stream(self, namespace: Namespace, tokens: I32) -> tuple[int, Iterator[PageName]]:
        """How many whole pages of a text the prefix tree has, and the names of those behind them.

        Cost: O(tokens matched), as ``keys_in``, and about 2 µs for each name that is taken.
        """
        before, pages = root_key(namespace), 0
        if namespace.origin in self.tree.roots:
            match = self.tree.match(namespace, tokens, len(tokens))
            before, pages = keys_in(match.node)[match.into - 1], match.pages  # a root has no pages, and one key
        return pages, names_behind(before, tokens[pages * self.page_tokens :], self.page_tokens, namespace, pages)

    @staticmethod
    def continues(sequence: Sequence, names: SequenceOf[PageName]) -> bool:
        """Whether pages of its text stand right behind the published ones of a sequence. Cost: as ``keys_in``."""
        door = sequence.namespace.door(sequence.sealed)
        return bool(names) and names[0].before == behind(keys_in(sequence.tip)[-1], door)

    @property
    def touching(self) -> int:
        """The last step that may have moves to slots which are given out now: if need be, the one being planned."""
        return self.planning if self.moves else self.planning - 1

    def claim(self, sequence: Sequence) -> list[bytes] | None:
        """Have the published pages of a sequence kept in some tier until ``unclaim``; their keys.

        None where there are none, or no room. Cost: O(pages), and as ``keys_in``.
        """
        if self.tiers is None or not sequence.sealed:
            return None
        return self.tiers.claim(self.tree.path(sequence.tip))

    def unclaim(self, keys: list[bytes]) -> None:
        """Give a claim back. Cost: O(keys)."""
        if self.tiers is not None:
            self.tiers.host.unclaim(keys)
