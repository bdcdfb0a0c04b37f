"""Decodes a data set once into a store: python src/prepare.py data=imagenet data.folder=IMAGENET."""

from convergent.cli.main import run

if __name__ == "__main__":
    run("prepare")
