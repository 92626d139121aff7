"""From the memory given to page counts and the longest text; what is said when it is too little."""

from collections.abc import Mapping
from dataclasses import dataclass

from infergc.config import ConfigError, EngineConfig
from infergc.engine.ports import ModelFacts
from infergc.heap.groups import GroupSpec, pages_for, split_budget, window_pages
from infergc.units import MIB, ceil_div, format_bytes

_VARIATION = 8 * MIB  # measured: what libraries and activations take differs by up to 5 MiB from start to start


@dataclass(frozen=True, slots=True)
class Budget:
    """Memory as the user gave it.

    Attributes:
        flag: that gave it.
        total: bytes given.
        others: bytes that it covers beside KV, by holder.
    """

    flag: str
    total: int
    others: Mapping[str, int]

    @property
    def kv(self) -> int:
        """Bytes left for KV; below 0 where the rest does not fit."""
        return self.total - sum(self.others.values())

    @property
    def words(self) -> str:
        """The budget and where it goes, for messages."""
        if not self.others:
            return format_bytes(self.total)
        parts = ", ".join(f"{holder} {format_bytes(size)}" for holder, size in self.others.items())
        return f"{format_bytes(self.total)}, of which {format_bytes(max(0, self.kv))} are left for KV beside {parts}"

    @property
    def spare(self) -> int:
        """Bytes that a budget needs beside, to work at the next start too: others take some more or less each time."""
        return _VARIATION if self.others else 0

    def asking(self, kv_bytes: int) -> str:
        """The setting that leaves so much for KV, and has bytes to spare."""
        return f"{self.flag} {ceil_div(kv_bytes + sum(self.others.values()) + self.spare, MIB)}MiB"


def budget_of(config: EngineConfig, facts: ModelFacts) -> Budget:
    """The budget of a configuration for a model whose ledger is known."""
    if config.memory is not None:
        return Budget("--memory", config.memory, {**facts.memory, **({} if facts.granted else config.host_part)})
    if config.kv_cache_memory is None and facts.granted:
        return Budget("--memory", facts.granted, facts.memory)
    assert config.kv_bytes is not None, "without --memory there is always some"
    return Budget("--kv-cache-memory", config.kv_bytes, {})


def capacities(config: EngineConfig, facts: ModelFacts) -> tuple[GroupSpec, ...]:
    """The model's groups with the pages that the budget gives them.

    Raises:
        ConfigError: it does not hold one page of each, or less than a window needs; the message says what would fit.
    """
    budget, least = budget_of(config, facts), _bytes_for(config, facts, 1)
    if budget.kv < least:
        longest = min(facts.max_len, config.max_model_len or facts.max_len)
        whole = _bytes_for(config, facts, longest)
        works = "works safely" if budget.spare else "works"
        raise ConfigError(
            f"{budget.flag}: {budget.words}; the least that {works} is {budget.asking(least)}, and requests of "
            f"{longest} tokens take {budget.asking(whole)}"
        )
    return split_budget(facts.groups, budget.kv)


def host_slots(config: EngineConfig, facts: ModelFacts) -> int:
    """Pages, of every layer group, that the host tier holds.

    Raises:
        ConfigError: it does not hold one; the message says what would.
    """
    size = sum(group.page_bytes for group in facts.groups)
    if 0 < config.host_bytes < size:
        raise ConfigError(
            f"--host-cache-memory: {format_bytes(config.host_bytes)} hold no page; one of every layer group takes "
            f"{format_bytes(size)}"
        )
    return config.host_bytes // size


def longest_text(config: EngineConfig, facts: ModelFacts, groups: tuple[GroupSpec, ...]) -> int:
    """The longest text: as asked, within the model's context, and such that one request alone always fits.

    Raises:
        ConfigError: more is asked than the model's context or the KV memory; the message says what would fit.
    """
    size, asked = config.block_size, config.max_model_len
    holds = min([group.capacity * size for group in groups if group.window is None], default=facts.max_len)
    if asked is not None and asked > facts.max_len:
        raise ConfigError(f"--max-model-len: {asked} is over the model's context of {facts.max_len} tokens")
    if asked is not None and asked > holds:
        budget, need = budget_of(config, facts), _bytes_for(config, facts, asked)
        raise ConfigError(
            f"--max-model-len: {asked} tokens take {format_bytes(need)} of KV cache; {budget.flag} is "
            f"{budget.words}, which holds {holds} tokens; {budget.asking(need)} would do"
        )
    return asked or min(facts.max_len, holds)


def _bytes_for(config: EngineConfig, facts: ModelFacts, tokens: int) -> int:
    """KV bytes with which one text of so many tokens always fits: groups have equally many pages."""
    size, chunk = config.block_size, config.max_num_batched_tokens
    windows = (window_pages(group, size, chunk) for group in facts.groups if group.window is not None)
    whole = pages_for(facts.max_len, size)
    pages = max((pages_for(tokens, size), *(min(held, whole) for held in windows)))
    return pages * sum(group.page_bytes for group in facts.groups)
