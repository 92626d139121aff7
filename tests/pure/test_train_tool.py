"""What the training tool does with text before any tensor: reading, holding out, making conversations."""

import gzip
import importlib
import random
import subprocess
import sys
from itertools import islice
from pathlib import Path
from types import ModuleType

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools"
WRAPPED = (
    "It was a bright cold morning and the whole of the harbour was awake; the\n"
    "ships lay side by side, and the “captain” walked about with his _long_ glass.\n"
)
SPEECHES = [
    "“Is he married or single?”",
    "“Oh! single, my dear!”",
    "He rose—and left the room at once.",
]


@pytest.fixture
def corpus(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(TOOLS))
    return importlib.import_module("demo_model.corpus")


@pytest.fixture
def conversations(corpus: ModuleType) -> ModuleType:
    return importlib.import_module("demo_model.conversations")


def seeded(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311 - nothing here is a secret


def book_text(copies: int = 20) -> str:
    return "\n\n".join((WRAPPED + "\n" + "\n\n".join(SPEECHES)) for _ in range(copies))


def test_prose_is_unwrapped_and_put_in_ascii(corpus: ModuleType) -> None:
    first, *rest = corpus.paragraphs(book_text(1))
    assert "\n" not in first
    assert 'harbour was awake; the ships lay side by side, and the "captain" walked' in first
    assert first.endswith("with his long glass.")
    assert rest == [
        '"Is he married or single?"',
        '"Oh! single, my dear!"',
        "He rose--and left the room at once.",
    ]


def test_verse_keeps_its_lines(corpus: ModuleType) -> None:
    play = "First Citizen:\nBefore we proceed any further,\nhear me speak.\n\nAll:\nSpeak, speak."
    assert corpus.paragraphs(play) == play.split("\n\n")


def test_a_table_of_contents_is_dropped_and_headings_are_kept(corpus: ModuleType) -> None:
    listing = "\n\n".join(f"CHAPTER {i}. The Sea." for i in range(1, 9))
    assert corpus.paragraphs(f"{listing}\n\nCHAPTER 1. The Sea.\n\nCall me what you like.") == [
        "CHAPTER 1. The Sea.",
        "Call me what you like.",
    ]


def test_the_end_is_held_out(corpus: ModuleType) -> None:
    blocks = [f"{i:03d} " + "x" * 96 for i in range(200)]
    train, held_out = corpus.split(blocks)
    assert train + held_out == blocks
    assert len(held_out) == 6  # 3 % of 200 equal paragraphs


def test_plain_and_gzip_files_read_alike(corpus: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "a_tale_of_the_sea.txt").write_text(book_text(), encoding="utf-8")
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(book_text().encode()))
    (tmp_path / "notes.md").write_text("not a text of the corpus")
    plain, packed = corpus.read_corpus(tmp_path)
    assert plain.title == "A Tale of the Sea"
    assert (plain.train, plain.held_out, plain.digest) == (packed.train, packed.held_out, packed.digest)
    assert plain.raw_bytes == len(book_text().encode())


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("x.txt", b"only one paragraph", "two paragraphs"),
        ("x.txt", b"\xff\xfe\x00", "UTF-8"),
        ("x.txt.gz", b"not gzip", "gzip"),
        ("x.csv", b"1,2", r"holds no \.txt"),
    ],
)
def test_bad_corpora_are_named(corpus: ModuleType, tmp_path: Path, name: str, content: bytes, complaint: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(corpus.CorpusError, match=complaint):
        corpus.read_corpus(tmp_path)


def test_a_missing_folder_is_named(corpus: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(corpus.CorpusError, match=r"--corpus .*nowhere is not a directory"):
        corpus.read_corpus(tmp_path / "nowhere")


def test_speeches_become_turns(corpus: ModuleType, conversations: ModuleType) -> None:
    book = corpus.Book("t.txt", "T", corpus.paragraphs(book_text(1)), [], 0, "")
    assert conversations.dialogue(book, 1, seeded(0)) == [
        ("user", "Is he married or single?"),
        ("assistant", "Oh! single, my dear!"),
    ]
    assert conversations.dialogue(book, 2, seeded(0)) == []  # what follows is narration
    assert conversations.speech("First Citizen:\nSpeak, speak.") == "Speak, speak."


def test_a_continuation_loses_no_word(corpus: ModuleType, conversations: ModuleType) -> None:
    book = corpus.Book("t.txt", "T", corpus.paragraphs(book_text(3)), [], 0, "")
    (_, asked), (_, answered) = conversations.continuation(book, 0, seeded(0))
    assert f"{asked.removeprefix('Continue: ')} {answered}" == conversations.passage(book, 0)


def test_conversations_alternate_and_follow_the_seed(corpus: ModuleType, conversations: ModuleType) -> None:
    books = [corpus.Book("t.txt", "The Tale", corpus.paragraphs(book_text()), [], 0, "")]
    one, same, other = (list(islice(conversations.conversations(books, seeded(seed)), 50)) for seed in (1, 1, 2))
    assert one == same
    assert one != other
    for messages in one:
        roles = [role for role, _ in messages if role != "system"]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
        assert all(content for _, content in messages)


def test_one_endless_paragraph_still_makes_conversations(corpus: ModuleType, conversations: ModuleType) -> None:
    book = corpus.Book("t.txt", "T", ["x" * 5000], [], 0, "")
    messages = next(conversations.conversations([book], seeded(0)))
    assert len(messages[-1][1]) <= conversations.MAX_PASSAGE


def test_reading_needs_no_torch() -> None:
    probe = "import demo_model.conversations, sys; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", probe], cwd=TOOLS, check=True)
