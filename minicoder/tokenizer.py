"""Text to tokens and back: byte-level BPE with DeepSeek's special tokens.

Sources: DeepSeek LLM §2.1, the released tokenizer's rules. tiktoken does the encoding.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
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
# them on printable ASCII; they list letters and punctuation one by one, so accents and
# full-width punctuation split otherwise there. {1,9999} where the engine may go back.
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


def show(token: bytes) -> str:
    """A token as `tokenizer.json` writes it: b" def" is "Ġdef"."""
    return "".join(_SHOWN[byte] for byte in token)


class Tokenizer:
    """A trained vocabulary: tokens in the order of their ids, and the merges.

    `vocab_size` counts the specials, whose ids follow the regular tokens' in the order
    bos, eos, fim_hole, fim_begin, fim_end.
    """

    def __init__(self, tokens: Sequence[bytes], merges: Sequence[tuple[bytes, bytes]]
                 ) -> None:
        self.tokens, self.merges = list(tokens), list(merges)
        self.specials = {text: len(tokens) + i for i, text in enumerate(SPECIALS)}
        self.bos, self.eos, self.fim_hole, self.fim_begin, self.fim_end = (
            self.specials.values())
        self.vocab_size = len(tokens) + len(SPECIALS)
        self.encoding = tiktoken.Encoding(
            "minicoder", pat_str=PATTERN, special_tokens=self.specials,
            mergeable_ranks={token: i for i, token in enumerate(self.tokens)})

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
        return self.encoding.encode_ordinary(text)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` for many texts."""
        return self.encoding.encode_ordinary_batch(list(texts), num_threads=2)

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes of the tokens; specials as their text."""
        return self.encoding.decode_bytes(list(ids))

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
            "added_tokens": [special(text) for text in SPECIALS],
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": PATTERN},
                 "behavior": "Isolated", "invert": False}, level]},
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
        """Read a folder that `save` wrote; `UserError` names what is missing in it."""
        path = Path(folder) / "tokenizer.json"
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            model = content["model"]
            ids = {_hidden(text): i for text, i in model["vocab"].items()}
            merges = [(_hidden(a), _hidden(b)) for a, b in model["merges"]]
            added = [one["content"] for one in content["added_tokens"]]
            pattern = content["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"]
            numbers = sorted(ids.values())
        except FileNotFoundError:
            raise UserError(f"{path} does not exist.") from None
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise UserError(f"{path} is broken: {error!r}.") from None
        if numbers != list(range(len(ids))):
            raise UserError(f"{path}: model.vocab has gaps or doubles among its ids.")
        if tuple(added) != SPECIALS or pattern != PATTERN:
            raise UserError(f"{path}: added_tokens or the pattern of the pre_tokenizer "
                            "are not those of minicoder.")
        return cls(sorted(ids, key=ids.__getitem__), merges)


def _hidden(text: str) -> bytes:
    return bytes(_BYTE[character] for character in text)


def _write(path: Path, value: dict) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n",
                    encoding="utf-8")
