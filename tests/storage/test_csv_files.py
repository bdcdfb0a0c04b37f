"""Tables as CSV files: what a spreadsheet makes of them, and what is read back."""

import csv

from convergent.storage.csv_files import read_rows, write_rows


def test_a_name_that_a_spreadsheet_would_run_is_text_and_comes_back(tmp_path):
    names = ["=HYPERLINK(1)", "+1", "-x", "@SUM", "\t=1", "'quoted", "seed=0", "", 'a "b", c']
    write_rows(tmp_path / "t.csv", [{"net": name, "r": -0.5, "n": -3} for name in names])
    with (tmp_path / "t.csv").open(newline="") as file:
        seen = list(csv.DictReader(file))
    assert not any(row["net"].startswith(("=", "+", "-", "@", "\t", "\r")) for row in seen)
    assert {(row["r"], row["n"]) for row in seen} == {("-0.5", "-3")}  # numbers stay numbers
    assert [row["net"] for row in read_rows(tmp_path / "t.csv")] == names
