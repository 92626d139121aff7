"""Makes conversations out of books, so that a model of books also answers a chat request and then stops."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator

from demo_model.corpus import Book

Message = tuple[str, str]  # (role, content)

SPEAKER = re.compile(r"^[A-Z][\w' ]{1,24}:\n")  # a play's "First Citizen:" on its own line
NAME = re.compile(r"(?<=[a-z,;] )[A-Z][a-z]{3,}\b")  # capitalised inside a sentence
SYSTEM_SHARE = 0.25
MAX_TURNS = 6
MIN_PASSAGE, MAX_PASSAGE = 160, 1200  # characters
QUESTIONS = ("Tell me about {}.", "Who is {}?", "What do you know of {}?", "What can you say about {}?")
REQUESTS = (
    "Tell me a story.",
    "Write a passage from {}.",
    "Write something in the style of {}.",
    "What happens?",
)


def conversations(books: list[Book], rng: random.Random) -> Iterator[list[Message]]:
    """Yield conversations without end, each from one place of one book; long books are drawn more often."""
    makers: tuple[Callable[[Book, int, random.Random], list[Message]], ...]
    makers = (dialogue, dialogue, continuation, question, request)
    weights = [sum(map(len, book.train)) for book in books]
    while True:
        book = rng.choices(books, weights)[0]
        messages = rng.choice(makers)(book, rng.randrange(len(book.train)), rng)
        if messages:
            yield _with_system(messages, book, rng)


def dialogue(book: Book, start: int, rng: random.Random) -> list[Message]:
    """Take spoken paragraphs from `start` on as turns; nothing where fewer than two follow each other."""
    turns: list[str] = []
    for paragraph in book.train[start : start + rng.choice((2, 2, 4, MAX_TURNS))]:
        if not (said := speech(paragraph)):
            break
        turns.append(said)
    turns = turns[: len(turns) // 2 * 2]
    return [("assistant" if i % 2 else "user", turn) for i, turn in enumerate(turns)]


def speech(paragraph: str) -> str:
    """Return direct speech without its outer quotes or a play's speaker; an empty string for narration."""
    if match := SPEAKER.match(paragraph):
        return paragraph[match.end() :]
    if not paragraph.startswith('"') or len(paragraph) > MAX_PASSAGE:
        return ""
    return paragraph[1:-1] if paragraph.count('"') == 2 and paragraph.endswith('"') else paragraph


def continuation(book: Book, start: int, rng: random.Random) -> list[Message]:
    """Let the user give the beginning of a passage, and the assistant the rest."""
    words = passage(book, start).split(" ")
    if len(words) < 24:
        return []
    cut = rng.randrange(6, len(words) // 2)
    return [("user", "Continue: " + " ".join(words[:cut])), ("assistant", " ".join(words[cut:]))]


def question(book: Book, start: int, rng: random.Random) -> list[Message]:
    """Let the user ask about a name, and the assistant give a passage in which it stands."""
    text = passage(book, start)
    names = sorted(set(NAME.findall(text)))
    if not names:
        return []
    return [("user", rng.choice(QUESTIONS).format(rng.choice(names))), ("assistant", text)]


def request(book: Book, start: int, rng: random.Random) -> list[Message]:
    """Let the user ask for a passage, and the assistant give it. Every place of every book has one."""
    return [("user", rng.choice(REQUESTS).format(book.title)), ("assistant", passage(book, start))]


def passage(book: Book, start: int) -> str:
    """Join paragraphs from `start` until MIN_PASSAGE characters, cut at the last sentence in MAX_PASSAGE."""
    text = ""
    for paragraph in book.train[start:]:
        text = f"{text}\n\n{paragraph}" if text else paragraph
        if len(text) >= MIN_PASSAGE:
            break
    if len(text) <= MAX_PASSAGE:
        return text
    head, stop, _ = text[:MAX_PASSAGE].rpartition(". ")
    return head + stop.strip() if head else text[:MAX_PASSAGE]


def _with_system(messages: list[Message], book: Book, rng: random.Random) -> list[Message]:
    if rng.random() >= SYSTEM_SHARE:
        return messages
    return [("system", f"You speak as in {book.title}."), *messages]
