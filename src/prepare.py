"""Decodes a data set once into a store: python src/prepare.py data=imagenet data.folder=IMAGENET."""

import sys

from convergent.cli.help import answered

if __name__ == "__main__" and answered("prepare"):
    sys.exit()

import hydra
from omegaconf import DictConfig

from convergent.cli.command import told


@hydra.main(version_base="1.3", config_path="../conf", config_name="prepare")
@told
def main(config: DictConfig) -> None:
    """Hand the job over; heavy imports wait until there is something to do."""
    from convergent.cli.prepare import prepare

    prepare(config)


if __name__ == "__main__":
    main()
