"""What happens to a text before it is counted, as data: the rules of a model, and the patterns that define a token.

The kernel implements these rules; the patterns say what it means, for people and for whoever rebuilds a model out of
scikit-learn's parts. No code that walks over texts.
"""

from dataclasses import asdict, dataclass
from typing import Any

from sentiment_core.text.characters import EMOJI_RANGES

# Words keep their apostrophes ("don't"), so that a negation is one term; everything else that is no blank is a run.
WORD = r"\w+(?:['\u2019]\w+)*"
RUN = r"[^\w\s]+"
WORD_OR_PUNCTUATION = f"{WORD}|{RUN}"
HTML_TAG = r"<[^<>]*>"
URL = r"(?:https?://|www\.)\S+"
EMAIL = r"\w[\w.+-]*@[\w-]+(?:\.[\w-]+)+(?:['\u2019]\w+)*"
NUMBER = r"[0-9]+"
NEGATED = "_NEG"
# What a masked token is counted as: no ordinary token holds both brackets and letters.
MASKS = {"mask_urls": "<url>", "mask_emails": "<email>", "mask_numbers": "<number>"}
# Das and Chen (2001), as NLTK has them; a word that holds n't negates as well.
NEGATIONS = (
    "aint", "arent", "cant", "couldnt", "didnt", "doesnt", "dont", "hadnt", "hasnt", "havent", "isnt", "never", "no",
    "none", "noone", "not", "nothing", "nowhere", "shouldnt", "wont", "wouldnt",
)  # fmt: skip
CLAUSE_ENDS = ".:;!?"
# The rules as bits, as the kernel reads them.
LOWER, HTML, URLS, EMAILS, NUMBERS, EMOJIS, STOPS, NEGATION, STEM = (1 << place for place in range(9))
MAX_LENGTHS = 8
"""Lengths of character runs that memory is set aside for."""


@dataclass(frozen=True, kw_only=True)
class TextRules:
    """Rules in the order in which they act; stored with a model as plain values."""

    strip_html: bool = True
    """A tag (`HTML_TAG`) is a blank."""
    lower_case: bool = True
    """As Python's `str.lower` does, final sigma and dotted capital I included."""
    mask_urls: bool = False
    """A token that is a URL counts as `<url>`."""
    mask_emails: bool = False
    """A token that is an e-mail address counts as `<email>`."""
    split_emoji: bool = False
    """Every emoji is a token; otherwise it is part of a run of punctuation."""
    mask_numbers: bool = False
    """A word of digits only counts as `<number>`."""
    mark_negation: bool = False
    """What stands between a negation and the end of its clause gets the suffix `_NEG` (Das and Chen 2001, as in NLTK)."""
    drop_stop_words: bool = False
    """Function words (stop_words.txt) are left out before n-grams are made; negations are none."""
    stem: bool = True
    """Words are cut to their stem by Porter's algorithm, as NLTK extends it."""
    ngram_max: int = 2
    """Terms are runs of one to so many tokens, joined by a blank."""
    char_min: int = 0
    char_max: int = 0
    """Terms are, when not 0, runs of so many characters inside words with a blank on each side (scikit-learn's `char_wb`)
    instead: of the rules above only tags and case matter then."""

    @property
    def n_lengths(self) -> int:
        """How many lengths of character runs there are; 0 for tokens."""
        return self.char_max - self.char_min + 1 if self.char_max else 0

    def as_dict(self) -> dict[str, Any]:
        """Plain values by name."""
        return asdict(self)

    def patterns(self) -> dict[str, str]:
        """Regular expressions of Python by kind of token, those that the rules switch off left out.

        At each place the first that matches makes a token, in the order given; `html_tag` acts before, `number` after.
        """
        emoji = "[" + "".join(f"{chr(first)}-{chr(last)}" for first, last in EMOJI_RANGES) + "]"
        kinds = {
            "html_tag": HTML_TAG if self.strip_html else None,
            "number": NUMBER if self.mask_numbers else None,
            "url": URL if self.mask_urls else None,
            "email": EMAIL if self.mask_emails else None,
            "word": WORD,
            "emoji": rf"(?!\w){emoji}" if self.split_emoji else None,
            "run": rf"(?:(?!{emoji})[^\w\s])+" if self.split_emoji else RUN,
        }
        return {kind: pattern for kind, pattern in kinds.items() if pattern}

    def masks(self) -> dict[str, str]:
        """What tokens of a kind count as, where they are masked."""
        return {name.removeprefix("mask_").removesuffix("s"): mask for name, mask in MASKS.items() if getattr(self, name)}
