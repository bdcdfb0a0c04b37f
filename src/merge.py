"""Merges trained nets: python src/merge.py method=matching; units aligned over the whole net, weights averaged."""

from convergent.cli.main import run

if __name__ == "__main__":
    run("merge")
