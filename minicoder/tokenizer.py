"""Text to tokens and back: byte-level BPE with DeepSeek's special tokens.

Sources: DeepSeek LLM §2.1, the released tokenizer's rules. tiktoken does the encoding.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

import regex
import tiktoken

from minicoder.bpe import Trainer, alphabet
from minicoder.errors import UserError

BOS, EOS = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"
FIM_HOLE, FIM_BEGIN, FIM_END = "<｜fim▁hole｜>", "<｜fim▁begin｜>", "<｜fim▁end｜>"
SPECIALS = (BOS, EOS, FIM_HOLE, FIM_BEGIN, FIM_END)  # released as 100000 .. 100004

# After the released rules: single line breaks; words and punctuation with one space
# before them; runs of Chinese, Japanese or Korean; digits one by one; other white
# space, whose last character stays with the word behind it; whatever is left. Equal to
# them on printable ASCII. They list letters and punctuation one by one: "–" and "€"
# take no space there, and their range ":-~" has the English letters, so that "Prüfer"
# is cut into Pr, ü, fer. {1,9999} where the engine may go back.
CJK = r"\u0800-\u9fa5\uac00-\ud7ff"
PATTERN = "|".join((
    r"[\r\n]", rf"[^\S\r\n]?(?:(?![{CJK}])\p{{L}}){{1,9999}}",
    r"[^\S\r\n]?[\p{P}\p{S}]+", rf"[{CJK}]+", r"\p{N}",
    rf"[^\S\r\n]{{1,9999}}(?=[^\S\r\n](?![{CJK}])[\p{{L}}\p{{P}}\p{{S}}])",
    r"[^\S\r\n]+",
    rf"(?:(?![{CJK}])[^\s\p{{L}}\p{{P}}\p{{S}}\p{{N}}]){{1,9999}}"))
LONGEST = 1024  # characters of a word that training looks at: keeps it linear

# how `tokenizer.json` writes a byte as a character that one can see
_SHOWN = {byte: chr(byte) if i < 188 else chr(256 + i - 188)
          for i, byte in enumerate(alphabet())}
_BYTE = {character: byte for byte, character in _SHOWN.items()}


BROKEN = regex.compile("([\\udc80-\\udcff])")     # bytes that are no UTF-8, in a str
# in no UTF-8 text at all; the released vocabulary lacks them
NEVER = {bytes([byte]) for byte in (0xC0, 0xC1, *range(0xF5, 0x100))}


def padded(vocab_size: int, multiple: int = 64) -> int:
    """Rows of the model's embedding: `vocab_size` rounded up to what divides well.

    The released 100,015 tokens have 102,400 rows, as a multiple of 4,096 would give;
    how DeepSeek chose it is unverified. The rows beyond the vocabulary are no tokens:
    no text encodes to them, and they decode to nothing.
    """
    return -(-vocab_size // multiple) * multiple


def show(token: bytes) -> str:
    """A token as `tokenizer.json` writes it: b" def" is "Ġdef"."""
    return "".join(_SHOWN[byte] for byte in token)


class Tokenizer:
    """A trained vocabulary: tokens in the order of their ids, and the merges.

    `vocab_size` counts the specials, whose ids follow the regular tokens' in the order
    bos, eos, fim_hole, fim_begin, fim_end, and then `more` that a released file has.
    `rules` cut a text into words: each isolates its matches in what the rules before it
    have left. With `PATTERN` tiktoken does that; other rules are slower.
    """

    def __init__(self, tokens: Sequence[bytes], merges: Sequence[tuple[bytes, bytes]],
                 rules: Sequence[str] = (PATTERN,), more: Sequence[str] = ()) -> None:
        self.tokens, self.merges, self.rules = list(tokens), list(merges), tuple(rules)
        self.specials = {text: len(tokens) + i
                         for i, text in enumerate((*SPECIALS, *more))}
        self.bos, self.eos, self.fim_hole, self.fim_begin, self.fim_end = list(
            self.specials.values())[:len(SPECIALS)]
        self.vocab_size = len(tokens) + len(self.specials)
        # PATTERN covers any text; what other rules leave out are words as well
        self.cuts = [regex.compile(rule) for rule in rules
                     if self.rules != (PATTERN,)]
        ranks = {token: i for i, token in enumerate(
            dict.fromkeys((*(token for token in tokens if len(token) == 1),
                           *(a + b for a, b in merges))))}
        place = {token: i for i, token in enumerate(tokens)}
        ids = [place[token] for token in ranks]  # of each rank; as a rule, itself
        self.ids = None if ids == list(range(len(ids))) else ids
        self.encoding = tiktoken.Encoding(
            "minicoder", pat_str=r"[\s\S]+" if self.cuts else PATTERN,
            special_tokens={}, mergeable_ranks=ranks)
        self.single = {token[0]: i for i, token in enumerate(tokens) if len(token) == 1}
        self.bytes = [*self.tokens, *(text.encode() for text in self.specials)]

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> Tokenizer:
        """Learn merges until there are `vocab_size` tokens, specials included.

        Raises `UserError` when the text is too small for so many.
        """
        words: Counter[bytes] = Counter()
        split = regex.compile(PATTERN)
        for text in texts:
            words.update(word[:LONGEST].encode("utf-8", "surrogatepass")
                         for word in split.findall(text))
        trainer = Trainer(words)
        regular = vocab_size - len(SPECIALS)
        while len(trainer.tokens) < regular:
            if trainer.step() is None:
                raise UserError(
                    f"The text holds only {len(trainer.tokens)} different tokens; "
                    f"choose a vocabulary below {vocab_size} or give more text.")
        if regular < 256:
            raise UserError(f"A vocabulary of {vocab_size} is too small: 256 bytes and "
                            f"{len(SPECIALS)} special tokens need 261.")
        pairs = [(trainer.tokens[a], trainer.tokens[b]) for a, b in trainer.merges]
        return cls(trainer.tokens, pairs)

    def encode(self, text: str) -> list[int]:
        """Ids of a text. Never a special one: control characters of users stay text.

        Lone surrogates, which are no text, become U+FFFD.
        """
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` for many texts."""
        if self.cuts:
            cut = [self.words(text) for text in texts]
            known = {word: self.encoding.encode_ordinary(word)
                     for word in {word for words in cut for word in words}}
            rows = [[rank for word in words for rank in known[word]] for words in cut]
        else:
            rows = self.encoding.encode_ordinary_batch(list(texts), num_threads=2)
        return rows if self.ids is None else [
            [self.ids[rank] for rank in row] for row in rows]

    def encode_bytes(self, data: bytes) -> list[int]:
        """Ids of any bytes: those that are no UTF-8 one by one, the rest as text.

        Raises `UserError` for a byte that a foreign vocabulary lacks.
        """
        parts = BROKEN.split(data.decode("utf-8", errors="surrogateescape"))
        rows = self.encode_batch(parts[::2])
        for place, byte in enumerate(parts[1::2]):
            if (number := ord(byte) - 0xDC00) not in self.single:
                raise UserError(f"The vocabulary has no token for byte {number:#x}.")
            rows[place].append(self.single[number])
        return [token for row in rows for token in row]

    def words(self, text: str) -> list[str]:
        """The text cut by the rules, one rule after the other."""
        pieces = [text]
        for rule in self.cuts:
            cut = []
            for piece in pieces:
                ends = [0, *(end for match in rule.finditer(piece)
                             for end in match.span()), len(piece)]
                cut += [piece[a:b] for a, b in pairwise(ends) if a < b]
            pieces = cut
        return pieces

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes of the tokens; specials as their text, ids beyond them nothing."""
        return b"".join(self.bytes[i] for i in ids if i < self.vocab_size)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of the tokens; bytes that are no UTF-8 become U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def save(self, folder: Path, chat_template: str | None = None) -> None:
        """Write `tokenizer.json` and `tokenizer_config.json`, as transformers opens."""
        def special(text: str) -> dict:
            return {"id": self.specials[text], "content": text, "single_word": False,
                    "lstrip": False, "rstrip": False, "normalized": False,
                    "special": True}

        vocabulary = {show(token): i for i, token in enumerate(self.tokens)}
        model = {"type": "BPE", "dropout": None, "unk_token": None,
                 "continuing_subword_prefix": None, "end_of_word_suffix": None,
                 "fuse_unk": False, "byte_fallback": False, "vocab": vocabulary,
                 "merges": [[show(a), show(b)] for a, b in self.merges]}
        level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
                 "use_regex": False}
        _write(folder / "tokenizer.json", {
            "version": "1.0", "truncation": None, "padding": None, "normalizer": None,
            "added_tokens": [special(text) for text in self.specials],
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
                *({"type": "Split", "pattern": {"Regex": rule},
                   "behavior": "Isolated", "invert": False} for rule in self.rules),
                level]},
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [{"SpecialToken": {"id": BOS, "type_id": 0}},
                           {"Sequence": {"id": "A", "type_id": 0}}],
                "pair": [{"Sequence": {"id": "A", "type_id": 0}},
                         {"Sequence": {"id": "B", "type_id": 1}}],
                "special_tokens": {
                    BOS: {"id": BOS, "ids": [self.bos], "tokens": [BOS]}}},
            "decoder": level, "model": model})
        _write(folder / "tokenizer_config.json", {
            "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": BOS,
            "eos_token": EOS, "pad_token": EOS, "add_bos_token": True,
            "add_eos_token": False, "clean_up_tokenization_spaces": False,
        } | ({"chat_template": chat_template} if chat_template else {}))

    @classmethod
    def load(cls, folder: Path) -> Tokenizer:
        """Read a `tokenizer.json`: ours, or one with DeepSeek's five control tokens.

        Raises `UserError` that names what is missing or what is not known here.
        """
        path = Path(folder) / "tokenizer.json"
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            model = content["model"]
            ids = {_hidden(text): i for text, i in model["vocab"].items()}
            merges = [(_hidden(a), _hidden(b)) for a, b in map(_pair, model["merges"])]
            added = {one["id"]: one["content"] for one in content["added_tokens"]}
            rules = [rule for step in content["pre_tokenizer"]["pretokenizers"]
                     if (rule := _rule(step)) is not None]
            normal = (content.get("normalizer") or {"normalizers": []})["normalizers"]
            numbers = sorted(ids.values())
            known = set(ids) >= {bytes([b]) for b in range(256)} - NEVER | {
                a + b for a, b in merges}
        except FileNotFoundError:
            raise UserError(f"{path} does not exist.") from None
        except (OSError, ValueError, LookupError, TypeError, AttributeError,
                regex.error) as error:
            raise UserError(f"{path} is broken: {error!r}.") from None
        if numbers != list(range(len(ids))):
            raise UserError(f"{path}: model.vocab has gaps or doubles among its ids.")
        specials = [added[number] for number in sorted(added)]
        if sorted(added) != list(range(len(ids), len(ids) + len(added))) or tuple(
                specials[:len(SPECIALS)]) != SPECIALS:
            raise UserError(f"{path}: added_tokens must follow the {len(ids)} others, "
                            f"and be {', '.join(SPECIALS)} first.")
        if not known or not rules or normal:
            raise UserError(f"{path}: model.vocab lacks a byte or a merged token, or "
                            "there is a normalizer, or no rule in the pre_tokenizer.")
        return cls(sorted(ids, key=ids.__getitem__), merges, rules,
                   specials[len(SPECIALS):])


def _rule(step: dict) -> str | None:
    """The regular expression of one step of a pre_tokenizer; None for bytes' looks."""
    match step:
        case {"type": "Split", "pattern": {"Regex": str(rule)}, "behavior": "Isolated",
              "invert": False}:
            regex.compile(rule)
            return rule
        case {"type": "Digits", "individual_digits": True}:
            return r"\p{N}"
        case {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}:
            return None
    raise ValueError(f"pre_tokenizer {step.get('type')!r} with these settings is "
                     "not known: Split (Isolated), Digits (one by one) and ByteLevel "
                     "(without its own rule) are")


def _pair(merge: str | list[str]) -> list[str]:
    """A merge, which older files write as one string, "Ġ t"."""
    return merge.split(" ") if isinstance(merge, str) else merge


def _hidden(text: str) -> bytes:
    return bytes(_BYTE[character] for character in text)


def _write(path: Path, value: dict) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n",
                    encoding="utf-8")
