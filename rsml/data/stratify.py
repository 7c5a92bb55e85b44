"""Divides rows of labels into parts whose label counts are as close to their shares as whole rows allow.

scikit-learn stratifies by one class only, and published code for several labels neither keeps part sizes exact nor
keeps groups together. All arithmetic is on integers, so that no rounding of a processor decides where an image goes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_WEIGHT = 2**36  # Scale of the integer weights 1 / (label count x share).
_CANDIDATES = 32
_WORK = 3 * 10**9


def part_sizes(count: int, shares: Sequence[int]) -> list[int]:
    """Divides `count` by shares with largest remainders: whole numbers that add up to `count` exactly."""
    whole = sum(shares)
    sizes = [count * share // whole for share in shares]
    by_remainder = sorted(range(len(shares)), key=lambda part: (-(count * shares[part] % whole), part))
    for part in by_remainder[: count - sum(sizes)]:
        sizes[part] += 1
    return sizes


def stratify(labels: np.ndarray, shares: Sequence[int], seed: int, groups: np.ndarray | None = None) -> np.ndarray:
    """Returns the part of each row.

    Iterative stratification, rarest label first, then moves and swaps that make the part sizes exact and lower the
    chi-square distance of the label counts from their shares. For one-hot labels the result is the usual division of
    each class by its shares.

    Args:
        labels: `(rows, labels)` of 0 and 1.
        shares: one positive whole number a part.
        seed: decides which of the rows with equal labels go where, and nothing else does.
        groups: `(rows,)` rows of one number stay together. Sizes are exact unless a group is too big for that.

    Reference:
        Sechidis, Tsoumakas and Vlahavas, On the stratification of multi-label data, ECML PKDD 2011.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    rows = len(labels)
    number = np.arange(rows) if groups is None else _by_first_row(np.asarray(groups))
    units = int(number.max(initial=-1)) + 1
    weight = np.bincount(number, minlength=units)
    counts = np.zeros((units, labels.shape[1]), dtype=np.int64)
    np.add.at(counts, number, labels.astype(np.int64))
    state = _State(counts, weight, np.asarray(shares, dtype=np.int64), part_sizes(rows, shares), rng)
    state.place_groups()
    state.place_singles()
    state.settle()
    return state.part[number]


def _by_first_row(groups: np.ndarray) -> np.ndarray:
    """Numbers groups by their first row, so that the caller's numbering does not matter."""
    _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse]


class _State:
    """The units (rows or groups of rows), the part each is in, and how much of each label each part still wants.

    Everything wanted is multiplied by the sum of the shares, which makes it whole.
    """

    def __init__(
        self, counts: np.ndarray, weight: np.ndarray, shares: np.ndarray, sizes: list[int], rng: np.random.Generator
    ) -> None:
        self.counts, self.weight, self.shares = counts, weight, shares
        self.whole = int(shares.sum())
        self.sizes = np.array(sizes, dtype=np.int64)
        self.part = np.full(len(counts), -1)
        self.rank = rng.permutation(len(counts))
        self.tie = rng.permutation(len(shares))
        self.totals = counts.sum(axis=0)
        self.wanted = shares[:, None] * self.totals[None, :]  # (parts, labels)
        self.room = self.whole * self.sizes  # (parts,)

    def _put(self, unit: int, part: int) -> None:
        self.part[unit] = part
        self.wanted[part] -= self.whole * self.counts[unit]
        self.room[part] -= self.whole * self.weight[unit]

    def place_groups(self) -> None:
        """Places the units of several rows, the biggest first, where their rarest label is wanted most and they fit."""
        several = np.flatnonzero(self.weight > 1)
        for unit in several[np.lexsort((self.rank[several], -self.weight[several]))]:
            has = np.flatnonzero(self.counts[unit])
            wanted = self.wanted[:, has[np.argmin(self.totals[has])]] if len(has) else self.room
            fits = self.room >= self.whole * self.weight[unit]
            self._put(unit, int(np.lexsort((self.tie, -self.room, -wanted, ~fits))[0]))

    def place_singles(self) -> None:
        """Places single rows label by label, the label with the fewest rows left first.

        Within one label Sechidis et al. give rows one by one to the part that wants the label most, then to the one
        with most room. Both wants fall by one a row, so the whole sequence is one sort.
        """
        left = self.part < 0
        while left.any():
            remaining = self.counts[left].astype(bool).sum(axis=0)
            if remaining.any():
                label = int(np.argmin(np.where(remaining > 0, remaining, np.iinfo(np.int64).max)))
                units = np.flatnonzero(left & (self.counts[:, label] > 0))
                wanted = self.wanted[:, label]
            else:
                units, wanted = np.flatnonzero(left), self.room
            units = units[np.argsort(self.rank[units])]
            step = self.whole * np.arange(len(units))
            parts = np.repeat(np.arange(len(self.shares)), len(units))
            keys = (self.tie[parts], -(self.room[:, None] - step).ravel(), -(wanted[:, None] - step).ravel())
            self.part[units] = parts[np.lexsort(keys)[: len(units)]]
            for part in range(len(self.shares)):
                chosen = units[self.part[units] == part]
                self.wanted[part] -= self.whole * self.counts[chosen].sum(axis=0)
                self.room[part] -= self.whole * len(chosen)
            left[units] = False

    def settle(self) -> None:
        """Makes the sizes exact by moving single rows, then swaps them while that brings label counts closer.

        Rows with the same labels are alike, so it works on the number of rows of each pattern in each part.
        """
        singles = np.flatnonzero(self.weight == 1)
        if not len(singles):
            return
        patterns, pattern = np.unique(self.counts[singles], axis=0, return_inverse=True)
        pattern = pattern.ravel()
        parts = len(self.shares)
        table = np.zeros((len(patterns), parts), dtype=np.int64)
        np.add.at(table, (pattern, self.part[singles]), 1)
        weights = np.maximum(_WEIGHT // np.maximum(self.totals[None, :] * self.shares[:, None], 1), 1)

        def move(row: int, source: int, target: int) -> None:
            table[row, [source, target]] += (-1, 1)
            self.wanted[source] += self.whole * patterns[row]
            self.wanted[target] -= self.whole * patterns[row]
            self.room[[source, target]] += (self.whole, -self.whole)

        def costs(source: int, target: int) -> np.ndarray:
            """Change of sum(weight x excess^2) / whole if one row of each pattern moves; excess is minus wanted."""
            leave = weights[source] * (self.whole + 2 * self.wanted[source])
            enter = weights[target] * (self.whole - 2 * self.wanted[target])
            return patterns @ (leave + enter)

        while True:
            source, target = int(np.argmin(self.room)), int(np.argmax(self.room))
            rows = np.flatnonzero(table[:, source])
            if self.room[target] < self.whole or self.room[source] > -self.whole or not len(rows):
                break
            move(int(rows[np.argmin(costs(source, target)[rows])]), source, target)

        pairs = [(a, b) for a in range(parts) for b in range(a)]
        effort = max(_WORK // max(patterns.size * parts, 1), 50)
        improved = True
        while improved and effort > 0:
            improved = False
            for one, other in pairs:
                while effort > 0:
                    effort -= 1
                    there, back = costs(one, other), costs(other, one)
                    some = _cheapest(there, table[:, one])
                    others = _cheapest(back, table[:, other])
                    if not len(some) or not len(others):
                        break
                    # Labels that both rows have stay where they are.
                    shared = 2 * self.whole * (patterns[some] * (weights[one] + weights[other])) @ patterns[others].T
                    change = there[some][:, None] + back[others][None, :] - shared
                    best = int(np.argmin(change))
                    if change.flat[best] >= 0:
                        break
                    move(int(some[best // len(others)]), one, other)
                    move(int(others[best % len(others)]), other, one)
                    improved = True

        order = singles[np.lexsort((self.rank[singles], pattern))]
        self.part[order] = np.repeat(np.tile(np.arange(parts), len(patterns)), table.ravel())


def _cheapest(costs: np.ndarray, available: np.ndarray) -> np.ndarray:
    """Returns the patterns that cost least to move, among those that have a row to move."""
    rows = np.flatnonzero(available)
    if len(rows) > _CANDIDATES:
        rows = rows[np.argsort(costs[rows], kind="stable")[:_CANDIDATES]]
    return rows
