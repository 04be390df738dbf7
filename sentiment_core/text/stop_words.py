"""The words a text rule may leave out: function words, of which none negates or weighs a judgement.

The words are in stop_words.txt beside this module, so that a change of them is one line to review. No rules, no tokens.
"""

from functools import cache
from importlib.resources import files


@cache
def stop_words() -> frozenset[str]:
    """The words in lower case; those with an apostrophe also with the typographic one.

    >>> {"the", "it's", "it\u2019s"} <= stop_words(), "not" in stop_words()
    (True, False)
    """
    lines = files(__package__).joinpath("stop_words.txt").read_text(encoding="utf-8").splitlines()
    words = [line for line in lines if line and not line.startswith("#")]
    return frozenset(words) | {word.replace("'", "\u2019") for word in words}
