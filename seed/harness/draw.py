"""Draws the windows that a run scores out of the pool, each with the same probability.

The draw is *balanced* by the cube method (Deville and Tillé, Biometrika 91, 2004): the chosen windows have, but for
rounding, the pool's mean of each feature, and the probability of each window to be among them is still exactly
count / pool. So the mean over many draws is the pool's, without any coefficient, and one draw is off only by what the
features do not explain. Features are the losses of counted n-grams (difficulty.py), which tell an easy window from a
hard one before any model is trained.

Plain floats in a fixed order: the same seed draws the same windows on every machine.
"""

import numpy

CLOSE = 1e-9


def choose_count(byte_counts: numpy.ndarray, scored_bytes: int) -> int:
    """Number of windows that stand for about `scored_bytes`: at least two, at most all."""
    return max(2, min(len(byte_counts), round(scored_bytes / byte_counts.mean())))


def draw_windows(features: numpy.ndarray, count: int, random: numpy.random.Generator) -> numpy.ndarray:
    """`count` sorted numbers of windows, balanced by their features (windows, kinds), the most important kind first."""
    total = len(features)
    if count >= total:
        return numpy.arange(total)
    spread = features.std(axis=0)
    columns = ((features - features.mean(axis=0)) / numpy.where(spread > 0, spread, 1)).T.tolist()
    constraints = [[1.0] * total, *columns]
    share = [count / total] * total
    waiting = random.permutation(total).tolist()
    chances = iter(random.random(total + len(constraints)).tolist())
    undecided: list[int] = []
    while constraints:
        while waiting and len(undecided) <= len(constraints):
            undecided.append(waiting.pop())
        if len(undecided) <= len(constraints):  # at the end there is no room for all: the least important goes
            constraints.pop()
            continue
        moves = find_kernel([[row[one] for one in undecided] for row in constraints])
        up, down = (_find_reach(moves, undecided, share, sign) for sign in (1, -1))
        step = up if next(chances) * (up + down) < down else -down  # so that the expected share stays as it is
        for move, one in zip(moves, undecided, strict=True):
            share[one] += step * move
        undecided = [one for one in undecided if CLOSE < share[one] < 1 - CLOSE]
    return numpy.flatnonzero(numpy.array(share) > 0.5)


def find_kernel(rows: list[list[float]]) -> list[float]:
    """A vector, not zero, that all rows map to zero; a matrix has fewer rows than columns. Gauss-Jordan elimination."""
    width, pivots = len(rows[0]), []
    for column in range(width):
        done = len(pivots)
        best = max(range(done, len(rows)), key=lambda row: abs(rows[row][column]), default=None)
        if best is None or abs(rows[best][column]) < CLOSE:
            break
        rows[done], rows[best] = rows[best], rows[done]
        pivot = rows[done][column]
        rows[done] = [value / pivot for value in rows[done]]
        for row in range(len(rows)):
            factor = rows[row][column]
            if row != done and factor:
                rows[row] = [a - factor * b for a, b in zip(rows[row], rows[done], strict=True)]
        pivots.append(column)
    free = len(pivots)  # the first column without a pivot
    found = [0.0] * width
    found[free] = 1.0
    for row, column in enumerate(pivots):
        found[column] = -rows[row][free]
    return found


def _find_reach(moves: list[float], undecided: list[int], share: list[float], sign: int) -> float:
    """How far all shares can go along the moves, or against them, before one is 0 or 1."""
    return min(
        ((1 - share[one]) if sign * move > 0 else share[one]) / abs(move)
        for move, one in zip(moves, undecided, strict=True)
        if abs(move) > CLOSE
    )
