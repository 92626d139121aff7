"""Options in groups, so that a long ``--help`` can be read."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

_Function = TypeVar("_Function", bound=Callable[..., Any])


class GroupedOption(click.Option):
    """An option that stands under a heading in ``--help``."""

    def __init__(self, *args: Any, heading: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.heading = heading


class GroupedCommand(click.Command):
    """A command whose ``--help`` shows its options under their headings, in order of declaration."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one section per heading; options without one come last."""
        sections: dict[str, list[tuple[str, str]]] = {}
        last: list[tuple[str, str]] = []
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx) if isinstance(parameter, click.Option) else None
            section = sections.setdefault(parameter.heading, []) if isinstance(parameter, GroupedOption) else last
            if record is not None:
                section.append(record)
        for heading, records in (*sections.items(), ("Other", last)):
            with formatter.section(heading):
                formatter.write_dl(records)


def option(heading: str, *names: str, **settings: Any) -> Callable[[_Function], _Function]:
    """``click.option`` under a heading; the default is shown."""
    return click.option(*names, cls=GroupedOption, heading=heading, show_default=True, **settings)
