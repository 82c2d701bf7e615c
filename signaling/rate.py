"""A token bucket: how much a sender may do. Pure: time is handed in."""

from __future__ import annotations


class TokenBucket:
    """`capacity` at once, refilled at `per_second`. `seconds` are of a monotonic clock."""

    __slots__ = ("_at", "_tokens", "capacity", "per_second")

    def __init__(self, capacity: float, per_second: float) -> None:
        self.capacity = capacity
        self.per_second = per_second
        self._tokens = capacity
        self._at: float | None = None

    def take(self, seconds: float, amount: float = 1.0) -> bool:
        """Take `amount` if it is there; False (and nothing taken) if not."""
        if self._at is not None:
            # max: a caller's clock that went back must not drain the bucket
            self._tokens = min(self.capacity, self._tokens + max(0.0, seconds - self._at) * self.per_second)
        self._at = seconds
        if self._tokens < amount:
            return False
        self._tokens -= amount
        return True

    def full(self, seconds: float) -> bool:
        """Nothing was taken lately: forgetting this bucket changes nothing."""
        if self._at is None:
            return True
        return self._tokens + max(0.0, seconds - self._at) * self.per_second >= self.capacity
