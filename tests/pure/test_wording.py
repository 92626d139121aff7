"""The words of messages."""

import pytest

from infergc.wording import counted


@pytest.mark.parametrize(("number", "words"), [(0, "0 pages"), (1, "1 page"), (2, "2 pages"), (1000, "1,000 pages")])
def test_a_plural_is_one_only_where_there_is_more_than_one(number: int, words: str) -> None:
    assert counted(number, "page") == words
