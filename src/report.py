"""One table and one chart over all finished methods of an experiment: python src/report.py."""

from convergent.cli.main import run

if __name__ == "__main__":
    run("report")
