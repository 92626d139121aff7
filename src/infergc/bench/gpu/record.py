"""What a run of the GPU benchmark found: as data, as a table at its end, and as a part of a Markdown page."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from infergc.bench.gpu.campaign import INTERRUPTED, Done
from infergc.bench.gpu.figure import NO_TIME, REST, Figure

CHECKS = "checks"  # the section that measures nothing
COLUMNS = ("section", "what", "figure", "bar", "verdict")


@dataclass(frozen=True, slots=True)
class Record:
    """A run.

    Attributes:
        head: when, with which options, from which commit.
        judged: whether its figures mean anything; bars are held against them only then.
        done: every section.
    """

    head: dict[str, Any]
    judged: bool
    done: Sequence[Done]

    @property
    def about(self) -> dict[str, Any]:
        """Machine and libraries, as the first section that came so far said."""
        return next((done.about for done in self.done if done.about), {})

    @property
    def wrong(self) -> bool:
        """Whether a kernel differs from the reference."""
        return any(figure.wrong for done in self.done for figure in done.figures)

    @property
    def status(self) -> int:
        """Exit status of the program: 130 if interrupted; 1 if a kernel differs or was not checked, or one broke."""
        reasons = {done.ends_all for done in self.done}
        if INTERRUPTED in reasons:
            return 130
        broken = any(_broke(done.name, figure) for done in self.done for figure in done.figures)
        return int(self.wrong or broken or reasons != {""})

    def plain(self) -> dict[str, Any]:
        """All of it, every round included, as data for JSON."""
        sections = [
            {
                "section": done.name,
                "seconds": done.seconds,
                "figures": [figure.plain(judged=self.judged) for figure in done.figures],
                **({"log": done.log} if done.log else {}),
            }
            for done in self.done
        ]
        return {**self.head, **self.about, "judged": self.judged, "wrong": self.wrong, "sections": sections}

    def text(self) -> str:
        """The table, and in a line what it was measured on: plain, for it is made where little is installed."""
        rows = [COLUMNS, *self._rows()]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        rows.insert(1, tuple("-" * width for width in (*widths[:-1], len(COLUMNS[-1]))))
        lines = [_aligned(row, widths) for row in rows]
        return "\n".join([*lines, "", *self._notes()])

    def markdown(self) -> str:
        """The table as a section of a page."""
        machine = self.about.get("device", "no device")
        lines = [f"## {machine}, {self.head['date'][:10]}", "", *self._notes(), ""]
        lines += ["| " + " | ".join(COLUMNS) + " |", "|---|---|---|---|---|"]
        lines += ["| " + " | ".join(cell.replace("|", "/") for cell in row) + " |" for row in self._rows()]
        return "\n".join(lines) + "\n"

    def _rows(self) -> Iterator[tuple[str, ...]]:
        for done in self.done:
            for at, figure in enumerate(done.figures):
                name = done.name if at == 0 else ""
                yield name, figure.what, _value(figure), _bar(figure), figure.verdict(judged=self.judged)

    def _notes(self) -> list[str]:
        about = self.about
        told = (about.get("device", "no section began"), about.get("versions", ""), self.head["date"])
        notes = ["; ".join(filter(None, told))]
        if about.get("stand_ins"):
            names = ", ".join(about["stand_ins"])
            notes.append(f"Not installed, and plain Python classes in their place: {names}.")
        if not self.judged:
            notes.append("Tiny sizes or no GPU: this shows that the program runs. Its figures mean nothing.")
        return notes


def _broke(section: str, figure: Figure) -> bool:
    """Whether a section broke off, or a kernel was not checked though all was there that it takes."""
    if section == CHECKS and figure.skipped == NO_TIME:
        return True
    return bool(figure.failed) and (section == CHECKS or figure.what == REST)


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    section, what, value, bar, verdict = row
    cells = (section.ljust(widths[0]), what.ljust(widths[1]), value.rjust(widths[2]), bar.rjust(widths[3]), verdict)
    return "  ".join(cells).rstrip()


def _value(figure: Figure) -> str:
    if figure.value is None:
        return ""
    text = _number(figure.value, figure.unit)
    if len(figure.rounds) < 2:
        return text
    return f"{text} ({_number(min(figure.rounds))} to {_number(max(figure.rounds))})"


def _bar(figure: Figure) -> str:
    return "" if figure.bar is None else f"{'≤' if figure.at_most else '≥'} {_number(figure.bar, figure.unit)}"


def _number(value: float, unit: str = "") -> str:
    text = f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.3g}"
    return f"{text} {unit}".rstrip()
