"""Options in groups, so that a long ``--help`` can be read."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from infergc.config import ELSEWHERE, flag

_NEAREST = {flag(other): flag(ours) for other, ours in ELSEWHERE.items()}

_Function = TypeVar("_Function", bound=Callable[..., Any])


class GroupedOption(click.Option):
    """An option that stands under a heading in ``--help``."""

    def __init__(self, *args: Any, heading: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.heading = heading


class GroupedCommand(click.Command):
    """A command whose ``--help`` shows its options under their headings, in order of declaration."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Point who knows another engine's option to ours."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if error.option_name not in _NEAREST:
                raise
            message = f"No such option '{error.option_name}'; the nearest here is '{_NEAREST[error.option_name]}'."
            raise click.NoSuchOption(error.option_name, message, ctx=ctx) from None

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
