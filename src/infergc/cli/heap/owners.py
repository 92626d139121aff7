"""A heap dump by owner: what each request, session and step in flight holds, in pages of all layer groups."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from infergc.heap.generations import GENERATIONS
from infergc.wording import shown

IN_FLIGHT, UNOWNED = "in flight", "leaked"


@dataclass(slots=True)
class Owner:
    """What one owner holds.

    Attributes:
        kind: "request", "parked", "pin", "session", "beam_group", "in flight" or "leaked".
        name: of the request or session; of a parked turn its session, if it has one.
        pinned: a pin, or a turn that its session keeps.
        held: pages, shared ones too.
        charged: pages by generation, each charged to one owner alone.
    """

    kind: str
    name: str
    pinned: bool = False
    held: int = 0
    charged: Counter[str] = field(default_factory=Counter)

    @property
    def what(self) -> str:
        """Its kind, for people."""
        return "parked, pinned" if self.kind == "parked" and self.pinned else self.kind.replace("_", " ")

    @property
    def pages(self) -> int:
        """All that are charged to it."""
        return self.charged.total()

    def add(self, groups: dict[str, Any]) -> None:
        """Take in what an object holds in each layer group."""
        for share in groups.values():
            self.held += share["held"]
            self.charged.update({name: share["charged"].get(name, 0) for name in GENERATIONS})


def owners_of(dump: dict[str, Any]) -> list[Owner]:
    """Everybody who holds pages, those with most first; together they are charged with every live and moving page."""
    found: dict[tuple[str, str], Owner] = {}
    for one in dump["objects"]:
        name = (one["kind"] == "parked" and one["session"]) or one["owner"]
        owner = found.setdefault((one["kind"], name), Owner(one["kind"], name, one["pinned"]))
        owner.add(one["groups"])
    for flight in dump["in_flight"]:
        step = f"step {flight['step']}"
        found.setdefault((IN_FLIGHT, step), Owner(IN_FLIGHT, step)).add(flight["groups"])
    for group, pages in dump["unowned"].items():
        found[UNOWNED, group] = Owner(UNOWNED, group, held=sum(pages.values()), charged=Counter(pages))
    held = [owner for owner in found.values() if owner.held]
    return sorted(held, key=lambda owner: (-owner.pages, -owner.held, owner.kind, owner.name))


def title_of(group: dict[str, Any]) -> str:
    """What a group of pages is called: those of the device as the layers that have them."""
    return f"group {group['name']}" if group["tier"] == "device" else f"{group['tier']} tier, group {group['name']}"


def readable(name: str) -> str:
    """A name that clients chose, as a terminal may show it."""
    return name if name.isprintable() else shown(name)
