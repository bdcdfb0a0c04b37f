"""Aligns trained nets: python src/align.py method=matching; a sweep: python src/align.py -m method=matching,semimatching."""

from convergent.cli.main import run

if __name__ == "__main__":
    run("align")
