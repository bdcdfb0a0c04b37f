"""Axes of tensors that can be reordered together: atoms, products of atoms (as after flattening), sums (concatenation).

An atom is a set of units in some order. What a net does ties atoms to one another: they become one, are found to be a
product or a sum of smaller ones, or are pinned, where their order means something. An axis that is pinned is always right.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod

import torch
from torch import Tensor


class Axis:
    """An axis of so many units: an atom, or a product or a sum of parts, the first of which varies slowest or comes first.

    Attributes:
        size: number of units.
        pinned: the module that gives the units' order a meaning; empty where they may be reordered.
    """

    def __init__(self, size: int, pinned: str = "") -> None:
        self.size, self.pinned = size, pinned
        self._parts: tuple[Axis, ...] = ()
        self._sum = False
        self._same: Axis | None = None

    @property
    def root(self) -> Axis:
        """What this axis is by now known to be."""
        axis = self
        while axis._same is not None:
            axis = axis._same
        return axis

    @property
    def factors(self) -> list[Axis]:
        """The factors of a product, down to atoms and sums, without those of one unit."""
        root = self.root
        if root._parts and not root._sum:
            return [factor for part in root._parts for factor in part.factors]
        return [root] if root.size > 1 else []

    @property
    def terms(self) -> list[Axis]:
        """The terms of a sum, down to atoms and products."""
        root = self.root
        return [term for part in root._parts for term in part.terms] if root._sum else [root]

    @property
    def atoms(self) -> Iterator[Axis]:
        """The atoms that this axis is made of."""
        root = self.root
        for part in root._parts:
            yield from part.atoms
        if not root._parts and root.size > 1:
            yield root

    def pin(self, where: str) -> Axis:
        """Say that a module gives the units' order a meaning; returns the axis."""
        for atom in self.atoms:
            atom.pinned = atom.pinned or where or "the net"
        return self

    def become(self, other: Axis) -> None:
        """Let an atom be another axis, or a product or a sum of others."""
        self._same = other
        if self.pinned:
            other.pin(self.pinned)


def product(parts: Sequence[Axis]) -> Axis:
    """The axis that parts make when they are flattened into one."""
    factors = [factor for part in parts for factor in part.factors]
    return factors[0] if len(factors) == 1 else _made(factors, prod(part.size for part in factors), of_sum=False)


def sum_of(parts: Sequence[Axis]) -> Axis:
    """The axis that parts make when they are concatenated."""
    terms = [term for part in parts for term in part.terms]
    return terms[0] if len(terms) == 1 else _made(terms, sum(part.size for part in terms), of_sum=True)


def _made(parts: Sequence[Axis], size: int, *, of_sum: bool) -> Axis:
    axis = Axis(size)
    axis._parts, axis._sum = tuple(parts), of_sum
    return axis


def unify(x: Axis, y: Axis, where: str) -> None:
    """Tie two axes: from now on they are one. What cannot be both is pinned by the module in which they meet."""
    x, y = x.root, y.root
    if x is y or x.size == 1:
        return
    if not x._parts:
        x.become(y)
    elif not y._parts:
        y.become(x)
    else:
        sums = x._sum or y._sum
        left, right = (x.terms, y.terms) if sums else (x.factors, y.factors)
        while left and right:
            one, other = left.pop(0), right.pop(0)
            if one.size != other.size:
                size = min(one.size, other.size)
                larger = one if one.size > other.size else other
                halves = (cut if sums else halved)(larger, size, where)
                if halves is None:
                    x.pin(where)
                    y.pin(where)
                    return
                (left if larger is one else right).insert(0, halves[1])
                one, other = halves[0], other if larger is one else one
            unify(one, other, where)


def halved(axis: Axis, first: int, where: str) -> tuple[Axis, Axis] | None:
    """The axis as a product, first that of so many units; None where it is none."""
    if axis.size % first:
        return None
    root = axis.root
    if not root._parts:
        root.become(product([one := Axis(first), other := Axis(root.size // first)]))
        return one.root, other.root
    if root._sum:
        terms = root.terms
        if len(terms) != first or len({term.size for term in terms}) > 1:
            return None
        for term in terms[1:]:
            unify(terms[0], term, where)
        number = Axis(first).pin(where)
        root.become(product([number, terms[0]]))
        return number, terms[0].root
    taken: list[Axis] = []
    left = root.factors
    while (need := first // prod(part.size for part in taken)) > 1:
        head = left.pop(0)
        if need % head.size == 0:
            taken.append(head)
        elif (halves := halved(head, need, where)) is not None:
            taken.append(halves[0])
            left.insert(0, halves[1])
        else:
            return None
    return product(taken), product(left)


def cut(axis: Axis, first: int, where: str) -> tuple[Axis, Axis] | None:
    """The axis as a sum, first that of so many units; None where it is none."""
    root = axis.root
    if not root._parts:
        root.become(sum_of([one := Axis(first), other := Axis(root.size - first)]))
        return one.root, other.root
    if not root._sum:  # as many times the same, one after another
        number, *rest = root.factors
        each = product(rest)
        if first % each.size:
            return None
        number.pin(where)
        root.become(sum_of([each] * number.size))
        root = root.root
    taken: list[Axis] = []
    left = root.terms
    while (need := first - sum(part.size for part in taken)) > 0:
        head = left.pop(0)
        if head.size > need:
            if (halves := cut(head, need, where)) is None:
                return None
            left.insert(0, halves[1])
            head = halves[0]
        taken.append(head)
    return sum_of(taken), sum_of(left)


def regrouped(axes: Sequence[Axis], sizes: Sequence[int], where: str) -> list[Axis]:
    """The axes of a tensor whose elements are given another shape; pinned where that cuts through units."""
    left, made = list(axes), []
    for size in sizes:
        taken: list[Axis] = []
        while (need := size // prod(part.size for part in taken)) > 1:
            factors = left.pop(0).factors
            if not factors:
                continue
            head, left[:0] = factors[0], factors[1:]
            if need % head.size == 0:
                taken.append(head)
            elif (halves := halved(head, need, where) if head.size > need else None) is not None:
                taken.append(halves[0])
                left.insert(0, halves[1])
            else:
                for axis in axes:
                    axis.pin(where)
                return [Axis(size).pin(where) for size in sizes]
        made.append(product(taken))
    return made


def blocks(x: Tensor, axes: Sequence[Axis]) -> Iterator[tuple[Tensor, list[Axis]]]:
    """Views of the parts of a tensor, each with the atom of every of its axes, given the tensor's axes."""
    roots = [axis.root for axis in axes]
    for place, axis in enumerate(roots):
        before, after = roots[:place], roots[place + 1 :]
        if axis._sum:
            begun = 0
            for part in axis._parts:
                yield from blocks(x.narrow(place, begun, part.size), [*before, part, *after])
                begun += part.size
            return
        if axis._parts:
            sizes = [part.size for part in axis._parts]
            yield from blocks(torch.unflatten(x, place, sizes), [*before, *axis._parts, *after])
            return
    yield x, roots
