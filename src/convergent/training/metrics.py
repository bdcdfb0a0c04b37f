"""What is counted of training and validation batches, without waiting for a GPU."""

from torch import Tensor
from torchmetrics import MeanMetric, Metric, MetricCollection
from torchmetrics.text import Perplexity


class Mean(MeanMetric):
    """A weighted mean that does not look for nan, for which it would wait for GPUs; torchmetrics' then drops the weights."""

    def __init__(self) -> None:
        super().__init__(nan_strategy="disable")

    def update(self, value: Tensor, weight: Tensor | int) -> None:  # type: ignore[override]
        """Take the mean of so many."""
        self.mean_value += value * weight
        self.weight += weight


class Accuracy(Mean):
    """The share of items whose class is among the `top` largest logits; those of the target -100 do not count."""

    def __init__(self, top: int) -> None:
        super().__init__()
        self.top = top

    def update(self, logits: Tensor, target: Tensor) -> None:  # type: ignore[override]
        """Count a batch."""
        best = logits.topk(min(self.top, logits.shape[-1]), dim=-1).indices
        self.mean_value += (best == target[..., None]).sum()
        self.weight += (target >= 0).sum()


def metrics_of(classes: int | None, *tops: int) -> dict[str, Metric | MetricCollection]:
    """The accuracies of nets that tell classes apart, by name; the perplexity of those that predict the next token."""
    if classes is None:
        return {"perplexity": Perplexity(ignore_index=-100)}
    return {f"acc_top{top}": Accuracy(top) for top in tops}
