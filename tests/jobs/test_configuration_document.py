from pathlib import Path

import pytest

from jobs.configuration_document import document
from jobs.settings import Settings
from strategies.config import BotConfig
from strategies.field_words import model_of
from strategies.mixins import BUILT_IN

FILE = Path(__file__).parents[2] / "docs" / "configuration.md"


def test_the_document_is_made_from_the_models():
    assert FILE.read_text(encoding="utf-8") == document(), "python -m jobs.configuration_document > the file"


MODELS = [
    *(model_of(field.annotation) for field in Settings.model_fields.values()),
    *(model_of(field.annotation) or BotConfig for field in BotConfig.model_fields.values()),
    *(mixin.Parameters for mixin in BUILT_IN),
]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_field_says_what_it_is_for_and_what_it_allows(model):
    rows = [line for line in document().splitlines() if line.startswith("| `")]
    for name, field in model.model_fields.items():
        assert field.description, name
        described = [row for row in rows if f"{name}` |" in row and field.description in row]
        assert described, name
        assert "a value" not in described[0], described[0]
