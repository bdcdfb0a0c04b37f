"""Trains one net: python src/train.py seed=0; several: python src/train.py -m seed=0,1,2,3."""

from convergent.cli.main import run

if __name__ == "__main__":
    run("train")
