"""The words of messages."""

import json

import pytest

from infergc.wording import counted, cut, shown


@pytest.mark.parametrize(("number", "words"), [(0, "0 pages"), (1, "1 page"), (2, "2 pages"), (1000, "1,000 pages")])
def test_a_plural_is_one_only_where_there_is_more_than_one(number: int, words: str) -> None:
    assert counted(number, "page") == words


def test_what_is_shown_is_short_and_no_more_of_it_is_looked_at() -> None:
    class Endless(list[int]):
        """One that cannot be gone through to its end."""

        def __iter__(self):
            for number in range(1000):
                assert number < 100
                yield number

    assert shown(Endless([1])).startswith("[0, 1, 2")
    assert shown("a" * 6_000_000) == '"' + "a" * 56 + "..."
    assert shown(["é\n"] * 30) == json.dumps(["é\n"] * 30, ensure_ascii=False)[:57] + "..."
    assert cut("a" * 60) == "a" * 60
    assert len(cut("a" * 61)) == 60
