"""What the API counts, and Prometheus' text format, version 0.0.4.

A Metrics belongs to one application and is safe with threads. Labels come out of short lists (paths, classes), never
out of what strangers send. No clock and no HTTP here.
"""

import threading
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# Upper ends in seconds. A text takes a millisecond or two, a full batch some hundredths, a reload up to some seconds.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
Labels = tuple[tuple[str, str], ...]
Sample = tuple[str, Labels, float]
"""What is put behind the family's name, labels, value."""


class Metrics:
    """Counts since the application was made."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[Labels] = Counter()
        self._seconds: defaultdict[str, list[int]] = defaultdict(lambda: [0] * (len(BUCKETS) + 1))
        self._sums: defaultdict[str, float] = defaultdict(float)
        self._scored: Counter[Labels] = Counter()
        self._reloads: Counter[Labels] = Counter({(("outcome", outcome),): 0 for outcome in ("done", "failed")})

    def count_request(self, path: str, status: int, seconds: float) -> None:
        """One request that was answered."""
        bucket = next((place for place, end in enumerate(BUCKETS) if seconds <= end), len(BUCKETS))
        with self._lock:
            self._requests[("path", path), ("status", str(status))] += 1
            self._seconds[path][bucket] += 1
            self._sums[path] += seconds

    def count_scored(self, sentiments: Iterable[str]) -> None:
        """Texts that were scored, by what was said of them."""
        with self._lock:
            self._scored.update((("sentiment", name),) for name in sentiments)

    def count_reload(self, *, is_done: bool) -> None:
        """A reload that was asked for."""
        with self._lock:
            self._reloads[(("outcome", "done" if is_done else "failed"),)] += 1

    def to_text(self, model: Mapping[str, str] | None) -> str:
        """All of it in the text format; `model` describes what answers now."""
        described = [("", tuple(model.items()), 1)] if model else []
        with self._lock:
            lines = [
                *_family("sentiment_api_requests_total", "counter", "Requests answered.", _plain(self._requests)),
                *_family("sentiment_api_request_seconds", "histogram", "Time that requests took.", self._histogram()),
                *_family("sentiment_api_reviews_scored_total", "counter", "Texts scored, by sentiment.", _plain(self._scored)),
                *_family("sentiment_api_reloads_total", "counter", "Reloads asked for, by outcome.", _plain(self._reloads)),
                *_family("sentiment_api_model_info", "gauge", "The version that answers; no sample where none does.", described),
            ]
        return "\n".join(lines) + "\n"

    def _histogram(self) -> Iterator[Sample]:
        ends = (*map(str, BUCKETS), "+Inf")
        for path, counts in self._seconds.items():
            labels = ("path", path)
            for end, n in zip(ends, accumulate(counts), strict=True):
                yield "_bucket", (labels, ("le", end)), n
            yield "_sum", (labels,), self._sums[path]
            yield "_count", (labels,), sum(counts)


def _plain(counts: Counter[Labels]) -> Iterator[Sample]:
    return (("", labels, n) for labels, n in counts.items())


def _family(name: str, kind: str, what: str, samples: Iterable[Sample]) -> Iterator[str]:
    yield f"# HELP {name} {what}"
    yield f"# TYPE {name} {kind}"
    for suffix, labels, value in samples:
        inside = ",".join(f'{label}="{escape(text)}"' for label, text in labels)
        yield f"{name}{suffix}{{{inside}}} {value}"


def escape(text: str) -> str:
    r"""A label's value as the format has it.

    >>> print(escape('a "b" \\ c' + chr(10)))
    a \"b\" \\ c\n
    """
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
