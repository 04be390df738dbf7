"""How far an object may grow while it is read: what a sender delivers decides neither memory nor disk nor the night.

A few kilobytes can unpack into terabytes, or stand for billions of rows. What an object gives is counted as it comes,
and one that is beyond the policy's limits is given up as a whole, with the limit in its reason. No format here.
"""

from sentiment_core.policy import Reading
from sentiment_core.reviews.rows import UnreadableObject


class Growth:
    """Counts of one object: bytes that were delivered, bytes that they became, rows."""

    def __init__(self, key: str, limits: Reading) -> None:
        self._key = key
        self._limits = limits
        self.n_packed = 0
        """Bytes of the object read so far, or all of them where that is known."""
        self.n_unpacked = 0
        self.n_rows = 0

    def add_bytes(self, n: int) -> None:
        """Count unpacked bytes; raises UnreadableObject past a limit."""
        self.n_unpacked += n
        if self.n_unpacked > self._limits.max_object_bytes:
            raise self._refused(f"at most {self._limits.max_object_bytes:,} bytes unpacked")
        if self.n_unpacked > self._limits.free_bytes and self.n_unpacked > self._limits.max_growth * self.n_packed:
            raise self._refused(
                f"at most {self._limits.max_growth} times as many bytes unpacked as delivered",
                f"{self.n_unpacked:,} of {self.n_packed:,}, and more to come",
            )

    def add_rows(self, n: int) -> None:
        """Count rows; raises UnreadableObject past the limit."""
        self.n_rows += n
        if self.n_rows > self._limits.max_object_rows:
            raise self._refused(f"at most {self._limits.max_object_rows:,} rows")

    def _refused(self, expected: str, found: str = "more") -> UnreadableObject:
        return UnreadableObject(self._key, expected=expected, found=found)
