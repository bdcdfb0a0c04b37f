"""Orders depend on seeds only, never on the number of processes."""

import pytest

from convergent.core.blocks import block_of_image
from convergent.data.order import BlockOrder, EvaluationOrder, TrainingOrder, mixed


def images(order):
    return [draw.image for draw in order]


def test_an_epoch_is_a_permutation_and_every_epoch_another():
    order = TrainingOrder(100, order_seed=0, augment_seeds=[0])
    first = images(order)
    order.set_epoch(1)
    second = images(order)
    assert sorted(first) == sorted(second) == list(range(100))
    assert first != second
    order.set_epoch(0)
    assert images(order) == first


def test_the_seeds_govern_what_they_say():
    draws = lambda order_seed, augment_seed: list(TrainingOrder(50, order_seed, [augment_seed]))  # noqa: E731
    assert [d.image for d in draws(0, 0)] == [d.image for d in draws(0, 1)]
    assert {d.seeds for d in draws(0, 0)}.isdisjoint(d.seeds for d in draws(0, 1))
    assert [d.image for d in draws(0, 0)] != [d.image for d in draws(1, 0)]
    assert {d.image: d.seeds for d in draws(0, 7)} == {d.image: d.seeds for d in draws(1, 7)}


@pytest.mark.parametrize("world", [2, 3])
def test_the_processes_batches_together_are_the_batches_of_one_process(world):
    alone = images(TrainingOrder(100, 0, [0]))
    shares = [images(TrainingOrder(100, 0, [0], rank, world)) for rank in range(world)]
    assert len({len(share) for share in shares}) == 1
    interleaved = [image for together in zip(*shares) for image in together]
    assert interleaved == alone[: len(interleaved)]


@pytest.mark.parametrize("world", [1, 2, 3, 7])
def test_evaluation_counts_every_image_once(world):
    draws = [draw for rank in range(world) for draw in EvaluationOrder(50, rank, world)]
    assert sorted(draw.image for draw in draws if draw.counted) == list(range(50))
    assert len(draws) % world == 0


@pytest.mark.parametrize("world", [1, 2, 5])
def test_the_pass_reads_block_by_block_the_same_batches_for_any_world(world):
    shares = [list(BlockOrder(203, 16, 5, rank, world)) for rank in range(world)]
    block_n = block_of_image(203, 16)
    batches = [images(batch) for share in shares for batch in share]
    assert sorted(image for batch in batches for image in batch) == list(range(203))
    assert all(len({block_n[image].item() for image in batch}) == 1 for batch in batches)
    assert batches == [images(batch) for batch in BlockOrder(203, 16, 5)]
    assert max(map(len, batches)) <= 5
    owners = [{block_n[batch[0].image].item() for batch in share} for share in shares]
    assert sum(map(len, owners)) == 16


def test_seeds_are_well_mixed():
    seeds = {mixed(a, b, c) for a in range(10) for b in range(10) for c in range(100)}
    assert len(seeds) == 10_000
    assert sum(seed & 1 for seed in seeds) == pytest.approx(5000, abs=300)
    assert mixed(1, 2) != mixed(2, 1)
