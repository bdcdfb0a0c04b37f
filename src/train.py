"""Trains one net: python src/train.py seed=0; several: python src/train.py -m seed=0,1,2,3."""

import sys

from convergent.cli.help import answered

if __name__ == "__main__" and answered("train"):
    sys.exit()

import hydra
from omegaconf import DictConfig

from convergent.cli.command import told
from convergent.cli.jobs import TrainJob


@hydra.main(version_base="1.3", config_path="../conf", config_name="train")
@told
def main(config: DictConfig) -> None:
    """Hand the job over; heavy imports wait until there is something to do."""
    job = TrainJob.of(config)
    with job.alone():
        if job.begin():
            from convergent.cli.train import train

            train(job)


if __name__ == "__main__":
    main()
