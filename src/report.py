"""One table and one chart over all finished methods of an experiment: python src/report.py."""

import sys

from convergent.cli.help import answered

if __name__ == "__main__" and answered("report"):
    sys.exit()

import hydra
from omegaconf import DictConfig

from convergent.cli.command import told


@hydra.main(version_base="1.3", config_path="../conf", config_name="report")
@told
def main(config: DictConfig) -> None:
    """Hand the configuration over."""
    from convergent.cli.report import report

    report(config)


if __name__ == "__main__":
    main()
