"""The two families of errors, and how their messages are built.

`Transient` means that trying again later may help; `Permanent` means that it will not. Only `dags/` and `cli/`
translate them (into Airflow's retry or fail, into exit status 75 or 1). Nothing else belongs here: an error
that carries data of one module is a subclass in that module.
"""


class SentimentError(Exception):
    """An error of ours: names the thing, what was expected, what was found, and what to do.

    >>> str(SentimentError("model 7", expected="a registered version", found="versions 1 to 3", remedy="see `sentiment models`"))
    'model 7: expected a registered version, found versions 1 to 3. To mend it: see `sentiment models`'
    """

    def __init__(self, thing: str, *, expected: str, found: str, remedy: str) -> None:
        super().__init__(f"{thing}: expected {expected}, found {found.rstrip('.')}. To mend it: {remedy}")
        self.thing = thing
        self.expected = expected
        self.found = found
        self.remedy = remedy


class Transient(SentimentError):
    """The world was not ready (a server away, an object rewritten while it was read): a retry may help."""


class Permanent(SentimentError):
    """The input or the set-up is wrong: a retry gives the same answer."""
