"""The two families of errors, and how their messages are built.

`Transient` means that trying again later may help; `Permanent` means that it will not. Only `dags/` and `cli/`
translate them (into Airflow's retry or fail, into exit status 75 or 1). What an error tells of may come from strangers
(the name of an object, a value), so here is too how such words are made fit to be shown. Nothing else belongs here: an
error that carries data of one module is a subclass in that module.
"""

import re

# What moves a terminal's cursor, forges a line of a log, or lets text read in another order than it stands.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def printable(words: str) -> str:
    r"""Words from outside as a terminal or a log may show them: control characters as escapes, tabs and line feeds kept.

    >>> print(printable("red \x1b[31m, evil \u202egnp.exe"))
    red \x1b[31m, evil \u202egnp.exe
    """
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), words)


class SentimentError(Exception):
    """An error of ours: names the thing, what was expected, what was found, and what to do.

    >>> str(SentimentError("model 7", expected="a registered version", found="versions 1 to 3", remedy="see `sentiment models`"))
    'model 7: expected a registered version, found versions 1 to 3. To mend it: see `sentiment models`'
    """

    def __init__(self, thing: str, *, expected: str, found: str, remedy: str) -> None:
        thing = printable(thing).replace("\n", "\\n")  # may be named by a stranger, and one message is one line of a log
        found = printable(found)
        super().__init__(f"{thing}: expected {expected}, found {found.rstrip('.')}. To mend it: {remedy}")
        self.thing = thing
        self.expected = expected
        self.found = found
        self.remedy = remedy


class Transient(SentimentError):
    """The world was not ready (a server away, an object rewritten while it was read): a retry may help."""


class Permanent(SentimentError):
    """The input or the set-up is wrong: a retry gives the same answer."""
