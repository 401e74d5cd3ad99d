"""The exercises of the lesson on the tokenizer (notebook 01), with known mistakes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from functools import cache, reduce
from itertools import pairwise
from typing import Any

from minicoder.bpe import Pair, merge
from minicoder.show.check import Rule, exercise
from minicoder.tokenizer import EOS, SPECIALS, Tokenizer

Answer = Callable[..., Any]
Ranks = dict[tuple[bytes, bytes], int]


def _mistake(message: str, run: Answer, wrong: Answer) -> Rule:
    """The rule that an answer must not give what `wrong` gives."""
    return Rule(message, lambda answer: run(answer) != run(wrong), wrong)


def _step(words: list[list[int]], counts: list[int]) -> Answer:
    """Try a merge on copies, so that an answer may change what it got."""
    def run(answer: Answer) -> tuple[Pair, list[list[int]]]:
        pair, merged = answer([list(ids) for ids in words], list(counts), 9)
        return tuple(pair), [list(ids) for ids in merged]
    return run


def _merging(count: Answer = lambda ids, n: list(pairwise(ids)) * n,
             tie: Answer = lambda pair: pair, join: Answer = merge) -> Answer:
    """A merge step, right unless a part of it is replaced."""
    def answer(words: list[list[int]], counts: list[int], new: int) -> Any:
        pairs = Counter(pair for ids, n in zip(words, counts, strict=True)
                        for pair in count(ids, n))
        pair = min(pairs, key=lambda pair: (-pairs[pair], tie(pair)))
        return pair, [join(ids, pair, new) for ids in words]
    return answer


def _first_only(ids: list[int], pair: Pair, new: int) -> list[int]:
    places = [i for i, found in enumerate(pairwise(ids)) if found == pair]
    return [*ids[:places[0]], new, *ids[places[0] + 2:]] if places else ids


def _across(words: list[list[int]], counts: list[int], new: int) -> Any:
    row = [i for ids, n in zip(words, counts, strict=True) for i in ids * n]
    pair, _ = merge_step([row], [1], new)
    return pair, [merge(ids, pair, new) for ids in words]


@exercise(
    "tokenizer.merge_step",
    rules=(
        Rule("give back (pair, words): two ids, and as many words as came in.",
             lambda answer: [*map(len, _step([[1, 2]] * 3, [1] * 3)(answer))] == [2, 3],
             lambda words, counts, new: ((1, 2), [[new]])),
        _mistake("the counts are not used: a word that occurs 5 times brings each of "
                 "its pairs 5 times.", _step([[1, 2], [3, 4, 3, 4], [3, 4]], [5, 1, 1]),
                 _merging(count=lambda ids, n: pairwise(ids))),
        _mistake("a pair counts as often as it stands in the word: [3, 4, 3, 4] has "
                 "(3, 4) twice.", _step([[1, 2], [3, 4, 3, 4]], [3, 2]),
                 _merging(count=lambda ids, n: [*set(pairwise(ids))] * n)),
        _mistake("you counted a pair across the border of two words: 1, 2 as a word "
                 "four times has no (2, 1).", _step([[1, 2], [2, 1]], [4, 5]), _across),
        _mistake("a tie must go to the smaller pair of ids, so that everybody learns "
                 "the same merges.", _step([[5, 6], [1, 2]], [3, 3]),
                 _merging(tie=lambda pair: 0)),
        _mistake("only the first place in a word is merged: [1, 2, 3, 1, 2] becomes "
                 "[9, 3, 9].", _step([[1, 2, 3, 1, 2]], [1]),
                 _merging(join=_first_only)),
        _mistake("a run is merged from the left: [1, 1, 1] becomes [9, 1].",
                 _step([[1, 1, 1]], [1]), _merging(join=lambda ids, pair, new: merge(
                     ids[::-1], pair[::-1], new)[::-1])),
        Rule("with new = 9, the words [2, 3, 2, 3], [1, 2, 3] and [4] that occur 1, 2 "
             "and 9 times become [9, 9], [1, 9] and [4]: put `new` for both ids of "
             "the pair, and go on behind them.",
             lambda answer: _step([[2, 3, 2, 3], [1, 2, 3], [4]], [1, 2, 9])(answer) ==
             ((2, 3), [[9, 9], [1, 9], [4]]),
             _merging(join=lambda ids, pair, new: merge(ids, pair, 256))),
    ),
    hints=("A Counter over pairwise(ids), each pair counted as often as its word.",
           "min(pairs, key=lambda pair: (-pairs[pair], pair)) breaks ties."),
)
def merge_step(words: list[list[int]], counts: list[int], new: int
               ) -> tuple[Pair, list[list[int]]]:
    """The most frequent pair, and the words with it replaced by `new`."""
    pairs: Counter[Pair] = Counter()
    for ids, n in zip(words, counts, strict=True):
        for pair in pairwise(ids):
            pairs[pair] += n
    best = min(pairs, key=lambda pair: (-pairs[pair], pair))
    return best, [merge(ids, best, new) for ids in words]


# "bc" was learnt before "ab", so that "abc" is a + bc and never ab + c
RANKS = {(b"b", b"c"): 0, (b"a", b"b"): 1, (b"ab", b"ab"): 2, (b"bc", b"d"): 3,
         (b"a", b"bcd"): 4}


def _word(word: bytes) -> Answer:
    return lambda answer: list(answer(word, dict(RANKS)))


def _encoding(choose: Answer, merges: int = 99) -> Answer:
    """Encoding that merges at the (rank, place) that `choose` picks."""
    def answer(word: bytes, ranks: Ranks) -> list[bytes]:
        parts = [word[i:i + 1] for i in range(len(word))]
        for _ in range(merges):
            if known := [(ranks[pair], i) for i, pair in enumerate(pairwise(parts))
                         if pair in ranks]:
                _, i = choose(known)
                parts[i:i + 2] = [parts[i] + parts[i + 1]]
        return parts
    return answer


def _joined(parts: list[bytes], pair: tuple[bytes, bytes]) -> list[bytes]:
    """Parts with one pair joined wherever it stands, from the left."""
    done: list[bytes] = []
    for part in parts:
        if done and (done[-1], part) == pair:
            done[-1] += part
        else:
            done.append(part)
    return done


def _longest(word: bytes, ranks: Ranks) -> list[bytes]:
    known, parts = {a + b for a, b in ranks}, []
    while word:
        size = next(n for n in range(len(word), 0, -1) if n == 1 or word[:n] in known)
        parts, word = [*parts, word[:size]], word[size:]
    return parts


@exercise(
    "tokenizer.encode_word",
    rules=(
        Rule("give a list of bytes back: b'abc' without merges is [b'a', b'b', b'c'].",
             lambda answer: all(isinstance(token, bytes) for token in _word(b"xy")(
                 answer)),
             lambda word, ranks: [*word]),
        Rule("the tokens must join to the word again.",
             lambda answer: b"".join(_word(b"abcab")(answer)) == b"abcab",
             lambda word, ranks: [word[:-1]]),
        Rule("a word that no merge fits falls into its single bytes.",
             lambda answer: _word(b"xyz")(answer) == [b"x", b"y", b"z"],
             lambda word, ranks: [word]),
        _mistake("abc became ab, c: the longest token, or the first pair, from the "
                 "left. The merge that was learnt first goes first: b + c.",
                 _word(b"abc"), _longest),
        _mistake("you stop after one merge: abab is one token, by way of ab, ab.",
                 _word(b"abab"), _encoding(min, merges=1)),
        _mistake("the dictionary may hold its merges in any order: what counts is the "
                 "rank, its value.", lambda answer: list(
                     answer(b"abcd", dict(reversed(RANKS.items())))),
                 lambda word, ranks: reduce(_joined, ranks, _encoding(min, 0)(
                     word, ranks))),
        Rule("abcd is one token, by way of bc and bcd; ababab is abab, ab, because "
             "equal ranks go from the left.",
             lambda answer: _word(b"abcd")(answer) == [b"abcd"] and
             _word(b"ababab")(answer) == [b"abab", b"ab"],
             _encoding(lambda known: known[-1])),
    ),
    hints=("Begin with single bytes. As long as two neighbours are in `ranks`, merge.",
           "Of all such neighbours, take those with the lowest rank.",
           "parts[i:i + 2] = [parts[i] + parts[i + 1]] merges at place i."),
)
def encode_word(word: bytes, ranks: Ranks) -> list[bytes]:
    """The tokens of one word: the merges are applied in the order they were learnt."""
    parts = [word[i:i + 1] for i in range(len(word))]
    while known := [(ranks[pair], i) for i, pair in enumerate(pairwise(parts))
                    if pair in ranks]:
        _, i = min(known)
        parts[i:i + 2] = [parts[i] + parts[i + 1]]
    return parts


def _text(*ids: int) -> Answer:
    return lambda answer: answer(
        list(ids), [b"a", b"\xe4", b"\xb8\x96", b" b", b"\n", b"\xff"])


@exercise(
    "tokenizer.decode",
    rules=(
        Rule("give a str back, not bytes.",
             lambda answer: isinstance(_text(0, 3)(answer), str),
             lambda ids, tokens: b"".join(tokens[i] for i in ids)),
        Rule("世 is three bytes, here in two tokens. Join the bytes of all tokens "
             "first, then decode once, as UTF-8.",
             lambda answer: _text(1, 2)(answer) == "世",
             lambda ids, tokens: "".join(
                 tokens[i].decode("utf-8", "replace") for i in ids)),
        Rule("the tokens ' b' and newline are the text ' b' and a line end: strip "
             "nothing, put nothing between.",
             lambda answer: _text(3, 4)(answer) == " b\n",
             lambda ids, tokens: b"".join(tokens[i] for i in ids).decode().strip()),
        Rule('half a character must neither stop the program nor vanish: a model can '
             'write any ids. Decode with errors="replace".',
             lambda answer: _text(0, 5)(answer) == "a\ufffd",
             lambda ids, tokens: b"".join(tokens[i] for i in ids).decode(
                 "utf-8", "ignore")),
        Rule("an id at or beyond len(tokens), a padded row of the model, decodes to "
             "nothing, and what follows it is still text.",
             lambda answer: _text(0, 6, 77, 3)(answer) == "a b",
             lambda ids, tokens: b"".join(tokens[i] for i in ids).decode(
                 "utf-8", "replace")),
    ),
    hints=('b"".join(...) first. Which ids have a token?',
           'bytes.decode takes errors="replace".'),
)
def decode(ids: list[int], tokens: list[bytes]) -> str:
    """The text of tokens, whatever ids a model has written."""
    data = b"".join(tokens[i] for i in ids if i < len(tokens))
    return data.decode("utf-8", errors="replace")


@cache
def _small() -> Tokenizer:
    return Tokenizer.train(["User: a b\n\nAssistant: a the end of sentence"], 270)


def _asked(answer: Answer, user: str = "a") -> list[int]:
    return list(answer(user, _small()))


def _believing(user: str, tokenizer: Tokenizer) -> list[int]:
    """Looks for control tokens in the finished text, as many chat servers did."""
    parts = re.split(f"({'|'.join(map(re.escape, SPECIALS))})", f"User: {user}\n\n"
                     "Assistant:")
    return [tokenizer.bos, *(i for part in parts for i in (
        [tokenizer.specials[part]] if part in SPECIALS else tokenizer.encode(part)))]


@exercise(
    "tokenizer.prompt",
    rules=(
        Rule("the prompt begins with the id `tokenizer.bos`. The text of BOS, encoded, "
             "is many ordinary tokens.",
             lambda answer: _asked(answer)[0] == _small().bos,
             lambda user, tokenizer: prompt(user, tokenizer)[1:]),
        Rule("behind `Assistant:` stands nothing, not even a space: the model's first "
             "token brings its own.",
             lambda answer: _small().decode(_asked(answer)[-1:])[-1] == ":",
             lambda user, tokenizer: prompt(user, tokenizer) + tokenizer.encode(" ")),
        Rule("a user typed the end token, and it became the control token. Only ids "
             "that you put there yourself may be control tokens.",
             lambda answer: _small().eos not in _asked(answer, EOS), _believing),
        Rule("the text must be `User: …`, two line ends and `Assistant:`, and what "
             "the user typed must be in it unchanged, as ordinary tokens.",
             lambda answer: _small().decode(_asked(answer, f" a{EOS}b\n")[1:]) ==
             f"User:  a{EOS}b\n\n\nAssistant:",
             lambda user, tokenizer: prompt(user.replace(EOS, ""), tokenizer)),
        Rule("encode the text in one piece. In pieces, `User: ` keeps the space that "
             "belongs to the user's first word.",
             lambda answer: _asked(answer) == _asked(prompt),
             lambda user, tokenizer: [tokenizer.bos] + [
                 i for part in ("User: ", user, "\n\nAssistant:")
                 for i in tokenizer.encode(part)]),
    ),
    hints=("`tokenizer.encode` never gives a control token, whatever the text.",
           "[tokenizer.bos, *tokenizer.encode(...)]; the rest is one f-string."),
)
def prompt(user: str, tokenizer: Tokenizer) -> list[int]:
    """One question in the released chat format, ready for the model's answer."""
    return [tokenizer.bos, *tokenizer.encode(f"User: {user}\n\nAssistant:")]
