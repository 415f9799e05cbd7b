"""What holds where scheduler.toml says nothing, for readers that cannot afford to import its model."""

from pathlib import Path
from typing import Final

SETTINGS_FILE: Final = Path("scheduler.toml")  # in the working directory
DATABASE_URL: Final = "sqlite:///onebar.db"
DATABASES: Final = ("sqlite:///", "postgresql://", "postgresql+psycopg://")  # what a URL may begin with
SETTLE_MS: Final = 1_500
