"""The columns of what lies between two nets' weights, described as those of `columns` are."""

from convergent.analysis.columns import Column

# A row per place on the line between two nets: line.csv of merge.
PLACE = (
    Column("a", "name of the net at the beginning of the line", "text"),
    Column(
        "b", "name of the net at its end, whose units are reordered; in together.csv `all`: all nets averaged", "text"
    ),
    Column(
        "alignment", "how units were reordered: a method, none, random, covariance, weights, consensus, zip", "text"
    ),
    Column("repair", "whether means and variances of units were renewed (REPAIR)", "0 or 1"),
    Column("share_b", "share of net b in the average of the weights; in together.csv of each net", "0 to 1"),
    Column("loss", "cross-entropy on held-out images, in nats", "at least 0"),
    Column("accuracy", "share of held-out images that are classified right", "0 to 1"),
    Column("above", "loss above the straight line between the ends' losses, in nats"),
)

# A row per line: barriers.csv of merge.
BARRIER = (
    *PLACE[:4],
    Column("barrier", "largest loss above the straight line between the ends' losses, in nats", "at least 0"),
    Column("middle_loss", "loss in the middle of the line, in nats", "at least 0"),
    Column("middle_accuracy", "accuracy there", "0 to 1"),
)
