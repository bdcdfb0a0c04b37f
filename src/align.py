"""Aligns trained nets: python src/align.py method=matching; a sweep: python src/align.py -m method=matching,semimatching."""

import sys

from convergent.cli.help import answered

if __name__ == "__main__" and answered("align"):
    sys.exit()

import hydra
from omegaconf import DictConfig

from convergent.cli.command import told
from convergent.cli.jobs import AlignJob


@hydra.main(version_base="1.3", config_path="../conf", config_name="align")
@told
def main(config: DictConfig) -> None:
    """Hand the job over; heavy imports wait until there is something to do."""
    job = AlignJob.of(config)
    with job.alone():
        if job.begin():
            from convergent.cli.align import align

            align(job)


if __name__ == "__main__":
    main()
