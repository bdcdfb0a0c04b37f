import pytest
import torch

from convergent.streaming.top_images import TopCounter


def brute_force(x_ncp, image_n, k, sign):
    """Sorted in plain Python: activation down, then image up; the first of the best positions."""
    lists = []
    for unit in range(x_ncp.shape[1]):
        rows = []
        for x_p, image in zip(x_ncp[:, unit].tolist(), image_n.tolist()):
            best = max(sign * value for value in x_p)
            rows.append((-best, image, [sign * value for value in x_p].index(best)))
        lists.append([(sign * -best, image, position) for best, image, position in sorted(rows)[:k]])
    return lists


def as_lists(top):
    return [list(zip(*unit)) for unit in zip(*(t.tolist() for t in (top.activation_ck, top.image_ck, top.position_ck)))]


@pytest.fixture
def stream():
    x_ncp = torch.randn(50, 7, 6)
    x_ncp[:, 1] = x_ncp[:, 1].relu()  # silent in some images
    x_ncp[:, 2] = x_ncp[:, 2].round()  # many ties
    x_ncp[:, 3] = 0  # constant
    x_ncp[:, 4] = -x_ncp[:, 4].abs() - 1
    x_ncp[:, 5] *= 1e-30
    x_ncp[0, 3, 2] = -0.0
    return x_ncp, torch.randperm(1000)[:50]


@pytest.mark.parametrize("lowest", [False, True])
@pytest.mark.parametrize("batch", [1, 7, 50])
def test_equals_brute_force(stream, batch, lowest):
    x_ncp, image_n = stream
    counter = TopCounter(7, 9, lowest=lowest)
    for x, images in zip(x_ncp.split(batch), image_n.split(batch)):
        counter.add(x, images)
    assert as_lists(counter.top()) == brute_force(x_ncp, image_n, 9, -1 if lowest else 1)


def test_any_order_and_split_over_processes_gives_the_same(stream):
    x_ncp, image_n = stream
    whole, parts = TopCounter(7), [TopCounter(7) for _ in range(3)]
    whole.add(x_ncp, image_n)
    for number, of_part in enumerate(torch.randperm(50).tensor_split(3)):
        for one in of_part.split(4):
            parts[number].add(x_ncp[one], image_n[one])
    for part in parts[:-1]:
        parts[-1].merge(part.state())
    assert as_lists(parts[-1].top()) == as_lists(whole.top())


def test_goes_on_from_a_state(stream):
    x_ncp, image_n = stream
    whole, first, second = TopCounter(7), TopCounter(7), TopCounter(7)
    whole.add(x_ncp, image_n)
    first.add(x_ncp[:20], image_n[:20])
    second.load_state({name: tensor.clone() for name, tensor in first.state().items()})
    second.add(x_ncp[20:], image_n[20:])
    assert as_lists(second.top()) == as_lists(whole.top())


def test_fewer_images_than_places_are_marked():
    counter = TopCounter(2, 4)
    counter.add(torch.rand(3, 2, 5, dtype=torch.bfloat16), torch.arange(3))
    top = counter.top()
    assert top.image_ck[:, 3].tolist() == [-1, -1]
    assert torch.isnan(top.activation_ck[:, 3]).all()
    assert (top.image_ck[:, :3].sort(1).values == torch.arange(3)).all()
