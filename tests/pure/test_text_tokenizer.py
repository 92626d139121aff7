"""The tokenizer against the library it wraps, and the detokeniser against the tokenizer."""

import json
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, normalizers

from infergc.text.detokenize import IncrementalDetokenizer
from infergc.text.files import TokenizerError
from infergc.text.tokenizer import TextError, Tokenizer
from infergc.units import ceil_div
from samples import tokenizer_dirs
from samples.tokenizer_dirs import BOS, EOS, KINDS, TEXT, TURN


@cache
def directory_of(kind: str) -> Path:
    return tokenizer_dirs.save(kind, Path(mkdtemp()))


@cache
def loaded(kind: str) -> Tokenizer:
    return Tokenizer.load(directory_of(kind))


@cache
def library(kind: str) -> tokenizers.Tokenizer:
    return tokenizers.Tokenizer.from_file(str(directory_of(kind) / "tokenizer.json"))


kinds = st.sampled_from(KINDS)
ids = st.lists(st.integers(0, 480), max_size=40)  # beyond every vocabulary here, too


def has_broken_bytes(tokenizer: Tokenizer, tokens: list[int]) -> bool:
    pieces = b"".join(map(tokenizer.piece, tokens))
    return "\ufffd" in pieces.decode("utf-8", "replace")


@given(kinds, ids, st.booleans())
def test_decode_equals_the_library(kind, tokens, skip):
    tokenizer, reference = loaded(kind), library(kind)
    kept = [i for i in tokens if not (skip and i in tokenizer.special_ids)]
    if kind == "sentencepiece" and has_broken_bytes(tokenizer, kept):
        return  # the library replaces each byte of the whole run there: see Tokenizer.decode
    expected = reference.decode(tokens, skip_special_tokens=skip)
    assert tokenizer.decode(tokens, skip_special_tokens=skip) == expected


@pytest.mark.parametrize("kind", ["byte-level", "sentencepiece"])
@given(text=st.text(max_size=60))
def test_any_text_survives_the_round_trip(kind, text):
    tokenizer = loaded(kind)
    text = f"x{text}"  # SentencePiece cannot tell a text's own leading space from the one that it adds
    assert tokenizer.decode(tokenizer.encode(text), skip_special_tokens=True) == text


def test_broken_bytes_cost_only_themselves():
    tokenizer = loaded("sentencepiece")
    good = [tokenizer._backend.token_to_id(f"<0x{byte:02X}>") for byte in "你".encode()]
    assert tokenizer.decode(good + good[:1]) == "你\ufffd"


@given(kinds, ids, st.booleans(), st.data())
def test_increments_add_up_to_the_whole(kind, tokens, skip, data):
    tokenizer = loaded(kind)
    stream = IncrementalDetokenizer(tokenizer, skip_special_tokens=skip)
    text, rest = "", tokens
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        text += stream.push(rest[:size])
        rest = rest[size:]
    assert text + stream.flush() == tokenizer.decode(tokens, skip_special_tokens=skip)


@pytest.mark.parametrize("kind", ["byte-level", "sentencepiece"])
@pytest.mark.parametrize("text", TEXT)
def test_whole_characters_only_and_at_once(kind, text):
    tokenizer = loaded(kind)
    tokens = tokenizer.encode(text, add_special_tokens=False)
    stream = IncrementalDetokenizer(tokenizer)
    data, shown = b"", ""
    for token in tokens:
        data += tokenizer.piece(token)
        shown += stream.push([token])
        whole = data.decode("utf-8", "ignore")  # drops the unfinished character at the end
        assert shown == whole.removeprefix(" ") if kind == "sentencepiece" else shown == whole
    assert stream.flush() == ""


def test_a_text_that_ends_inside_a_character():
    tokenizer = loaded("byte-level")
    stream = IncrementalDetokenizer(tokenizer)
    euro = [tokenizer._backend.token_to_id(char) for char in "âĤ"]  # two of the three bytes of €
    assert stream.push(euro) == ""
    assert stream.flush() == "\ufffd"


def test_a_continuation_keeps_its_leading_space():
    tokenizer = loaded("sentencepiece")
    tokens = tokenizer.encode("fox", add_special_tokens=False)
    assert IncrementalDetokenizer(tokenizer).push(tokens) == "fox"
    assert IncrementalDetokenizer(tokenizer, continues=True).push(tokens) == " fox"


def test_special_tokens_in_text_are_recognised_and_skipped():
    tokenizer = loaded("byte-level")
    tokens = tokenizer.encode(f"a{TURN}b{EOS}", add_special_tokens=False)
    assert tokens[1] == 2
    assert tokens[-1] == 1
    assert tokenizer.decode(tokens) == "ab"
    assert tokenizer.decode(tokens, skip_special_tokens=False) == f"a{TURN}b{EOS}"


def test_bos_is_added_once():
    tokenizer = loaded("byte-level")
    assert tokenizer.encode("fox")[0] == tokenizer.bos_id == 0
    assert tokenizer.encode(f"{BOS}fox", add_special_tokens=False) == tokenizer.encode("fox")


def test_tokens_that_only_the_configuration_knows(tmp_path):
    directory = tokenizer_dirs.save(
        "byte-level", tmp_path, eos_token={"content": "<|end|>", "special": True},
        added_tokens_decoder={"9000": {"content": "<tool>", "special": False, "normalized": False}},
        extra_special_tokens=["<think>"],
    )  # fmt: skip
    tokenizer = Tokenizer.load(directory)
    plain = tokenizer_dirs.build("byte-level").get_vocab_size()
    assert tokenizer.encode("<tool><|end|><think>", add_special_tokens=False) == [plain, plain + 1, plain + 2]
    assert tokenizer.decode([plain, plain + 1, plain + 2]) == "<tool>"
    assert tokenizer.eos_token == "<|end|>"


def test_special_tokens_of_the_older_file(tmp_path):
    directory = tokenizer_dirs.save("byte-level", tmp_path)
    (directory / "tokenizer_config.json").write_text("{}")
    (directory / "special_tokens_map.json").write_text(json.dumps({"bos_token": {"content": BOS}}))
    assert Tokenizer.load(directory).bos_token == BOS


def test_eos_ids_of_all_files(tmp_path):
    directory = tokenizer_dirs.save("byte-level", tmp_path)
    assert Tokenizer.load(directory).eos_ids == (1,)
    (directory / "config.json").write_text('{"eos_token_id": 7}')
    assert Tokenizer.load(directory).eos_ids == (7, 1)
    (directory / "generation_config.json").write_text('{"eos_token_id": [2, 1]}')
    assert Tokenizer.load(directory).eos_ids == (2, 1)


def test_truncation_and_padding_of_the_file_are_ignored(tmp_path):
    directory = tokenizer_dirs.save("byte-level", tmp_path)
    backend = tokenizer_dirs.build("byte-level")
    backend.enable_truncation(4)
    backend.enable_padding(length=500)
    backend.save(str(directory / "tokenizer.json"))
    tokens = Tokenizer.load(directory).encode(TEXT[0])
    assert tokens == loaded("byte-level").encode(TEXT[0])


def test_token_names():
    tokenizer = loaded("byte-level")
    assert tokenizer.token_text(tokenizer.encode("fox", add_special_tokens=False)[0]).startswith("f")
    assert tokenizer.token_text(tokenizer._backend.token_to_id("â")) == "bytes:\\xe2"
    assert tokenizer.token_text(0) == BOS
    assert tokenizer.piece(10**6) == b""


def test_half_a_surrogate_pair_is_refused():
    with pytest.raises(TextError, match="character 1 is half a surrogate pair"):
        loaded("byte-level").encode("a\ud800b")


def test_from_many_threads():
    tokenizer = Tokenizer.load(tokenizer_dirs.save("byte-level", Path(mkdtemp())))
    texts = [f"{text} {i}" for i in range(30) for text in TEXT]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda text: tokenizer.decode(tokenizer.encode(text)), texts)) == texts


class TestBrokenDirectories:
    def test_nothing_there(self, tmp_path):
        with pytest.raises(TokenizerError, match=r"tokenizer\.json: missing\. --model takes a directory"):
            Tokenizer.load(tmp_path)

    def test_only_a_sentencepiece_model(self, tmp_path):
        (tmp_path / "tokenizer.model").write_bytes(b"\0")
        with pytest.raises(TokenizerError, match=r"There is a tokenizer\.model: convert it"):
            Tokenizer.load(tmp_path)

    @pytest.mark.parametrize("content", ["", "{", "[]", '{"model": 3}'])
    def test_a_broken_file(self, tmp_path, content):
        (tmp_path / "tokenizer.json").write_text(content)
        with pytest.raises(TokenizerError, match=r"tokenizer\.json: not a tokenizer"):
            Tokenizer.load(tmp_path)

    @pytest.mark.parametrize("content", ["{", "[1]"])
    def test_a_broken_configuration(self, tmp_path, content):
        directory = tokenizer_dirs.save("byte-level", tmp_path)
        (directory / "tokenizer_config.json").write_text(content)
        with pytest.raises(TokenizerError, match=r"tokenizer_config\.json"):
            Tokenizer.load(directory)

    @pytest.mark.parametrize(
        ("decoder", "named"),
        [(decoders.WordPiece(), "WordPiece"), (decoders.Strip(" ", 1, 0), "Strip"),
         (decoders.Sequence([decoders.Fuse(), decoders.Strip(" ", 0, 1)]), "Strip")],
    )  # fmt: skip
    def test_a_decoder_of_another_kind(self, tmp_path, decoder, named):
        backend = tokenizer_dirs.build("byte-level")
        backend.decoder = decoder
        backend.save(str(tmp_path / "tokenizer.json"))
        with pytest.raises(TokenizerError, match=named):
            Tokenizer.load(tmp_path)


ODD = "\u2581 e\u0301\u1100\u1161\u11a8\u03b1\u0313\u0300\u0345\u1fbe\u0308<>\n"  # what normalizers make fewer bytes of
TEXTS = st.text(max_size=80) | st.text(ODD, max_size=80) | st.sampled_from([*TEXT, " padded word" * 9, EOS * 9])


@pytest.mark.parametrize("normalizer", [None, normalizers.NFC(), normalizers.Replace(" ", "\u2581"),
                                        normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.NFC()]),
                                        normalizers.Strip(), normalizers.NFKC(), normalizers.Lowercase()])  # fmt: skip
@settings(deadline=None)  # a busy machine is no fault of the text
@given(kind=kinds, text=TEXTS)
def test_a_text_is_never_shorter_than_its_bound(kind, normalizer, text):
    tokenizer = with_normalizer(kind, normalizer)
    assert tokenizer.fewest_tokens(text) <= len(tokenizer.encode(text, add_special_tokens=False))


@cache
def with_normalizer(kind: str, normalizer: normalizers.Normalizer | None) -> Tokenizer:
    directory = tokenizer_dirs.save(kind, Path(mkdtemp()))
    backend = library(kind)
    backend = tokenizers.Tokenizer.from_str(backend.to_str())
    if normalizer is not None:
        backend.normalizer = normalizer
    backend.save(str(directory / "tokenizer.json"))
    return Tokenizer.load(directory)


def test_the_bound_is_the_longest_token_s():
    text = "é" * 1000
    for kind in ("byte-level", "sentencepiece"):
        longest = max(len(name.encode()) for name in library(kind).get_vocab())
        assert loaded(kind).fewest_tokens(text) == ceil_div(2000, longest) > 1
    for kind in ("words", "metaspace"):  # they make one token of any run of unknown characters
        assert loaded(kind).fewest_tokens(text) == 0


@pytest.mark.parametrize("change", [
    {"added_tokens": [{"id": 2, "content": TURN, "single_word": False, "lstrip": True, "rstrip": False,
                       "normalized": False, "special": True}]},
    {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"String": " "}, "behavior": "Removed", "invert": False},
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}]}},
    {"normalizer": {"type": "Replace", "pattern": {"Regex": " +"}, "content": " "}},
    {"normalizer": {"type": "Replace", "pattern": {"String": "  "}, "content": " "}},
])  # fmt: skip
def test_no_bound_where_text_is_dropped(change, tmp_path):
    directory = tokenizer_dirs.save("byte-level", tmp_path)
    spec = json.loads((directory / "tokenizer.json").read_text("utf-8"))
    (directory / "tokenizer.json").write_text(json.dumps(spec | change))
    assert Tokenizer.load(directory).fewest_tokens(" " * 999) == 0
