"""docs/requirements.md and the tests agree: no number is unexplained, nothing is met that no test names."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"
ID = re.compile(r"\b(R(?:10|[1-9])\.\d+|D(?:1[01]|[1-9])|B[1-8])\b")
TEST = re.compile(r"def (test_\w+)")
ID_IN_A_NAME = re.compile(r"_(r\d+_\d+|d\d+|b\d)(?=_)")
LINE = re.compile(r"\| (R\d+\.\d+|D\d+|B\d) \| .+ \| (met|partly \(.+\)|not yet) \| (.*)\|$", re.MULTILINE)
PARTS = {1: 7, 2: 7, 3: 12, 4: 12, 5: 9, 6: 5, 8: 10, 9: 10, 10: 7}  # lines of each list R
LINES = LINE.findall((ROOT / "docs" / "requirements.md").read_text(encoding="utf-8"))


def named_in(file):
    text = file.read_text(encoding="utf-8")
    in_names = ID_IN_A_NAME.findall(" ".join(TEST.findall(text)))
    return {*ID.findall(text), *(found.upper().replace("_", ".") for found in in_names)}


def test_every_id_that_a_test_names_stands_in_the_document_once():
    known = [number for number, _, _ in LINES]
    files = [file for file in TESTS.rglob("test_*.py") if file != Path(__file__)]
    named = {number for file in files for number in named_in(file)}
    assert len(named) > 60
    assert named - set(known) == set()
    assert len(known) == len(set(known))


def test_the_document_leaves_no_number_out():
    expected = {
        *(f"R{part}.{at}" for part, last in PARTS.items() for at in range(1, last + 1)),
        *(f"D{at}" for at in range(1, 12)),
        *(f"B{at}" for at in range(1, 9)),
    }
    assert {number for number, _, _ in LINES} == expected


def test_what_is_met_is_named_by_the_tests_beside_it():
    wrong = []
    for number, state, tests in LINES:
        files = re.findall(r"`([^`]+)`", tests)
        if state == "met" and not files:
            wrong.append(f"{number} is met and no test stands beside it")
        wrong += [
            f"{file} does not name {number}"
            for file in files
            if not (ROOT / file).is_file() or number not in named_in(ROOT / file)
        ]
    assert wrong == []
