"""What the first documents lead to is there: links, and paths of folders and files."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = "scheduler|ops|jobs|persistence|strategies|tests"


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "docs/architecture.md"])
def test_what_a_document_leads_to_is_there(name):
    document = ROOT / name
    text = document.read_text(encoding="utf-8")
    links = [document.parent / link for link in re.findall(r"\]\(([^):#]+)[^):]*\)", text)]
    paths = [ROOT / path for path in re.findall(rf"`((?:{ROOMS})/[\w./]*)`", text)]
    assert len(links) + len(paths) > 5
    assert [place for place in (*links, *paths) if not place.exists()] == []
