"""scheduler.toml as a typed value. Both commands start from it; a bot's own settings are in its row.

Order of precedence: environment (`ONEBAR_<SECTION>__<KEY>`, and `ONEBAR_DATABASE_URL` for the one
that everybody sets), then the file, then the defaults below. Unknown keys are refused and every
fault is reported at once.
"""

import os
import re
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)
from pydantic_settings.exceptions import SettingsError

from jobs.defaults import DATABASE_URL, DATABASES, SETTINGS_FILE, SETTLE_MS
from strategies.faults import Fault, InvalidConfig, faults_of
from strategies.secrecy import fault_of_url


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _known_database(url: str) -> str:
    if not url.startswith(DATABASES):
        raise ValueError("must begin with sqlite:/// or postgresql://")
    if fault := fault_of_url(url):
        raise ValueError(fault)
    return url


class DatabaseSettings(Section):
    url: Annotated[str, AfterValidator(_known_database)] = Field(
        default=DATABASE_URL,
        repr=False,
        description="SQLite file or PostgreSQL server that holds everything.",
    )


class StrategySettings(Section):
    plugins: tuple[Path, ...] = Field(
        default=(), description="Folders of strategy files; a bot names one of them as module:Class."
    )


class MarketSettings(Section):
    csv_folder: Path = Field(default=Path(), description="Folder that a bot's data.file is relative to.")
    settle_ms: int = Field(
        default=SETTLE_MS, ge=0, le=60_000, description="ms after a bar's close before it is asked for."
    )
    timeout_ms: int = Field(default=10_000, ge=100, le=60_000, description="ms before a request is given up.")


class WorkerSettings(Section):
    count: int = Field(default=0, ge=0, le=256, description="Worker processes; 0 is one per core.")
    batch: int = Field(default=100, ge=1, le=1_000, description="Bots that share a batch and a transaction.")
    step_deadline_s: float = Field(
        default=30.0, gt=0, le=3_600, description="s that the bars of one bot may take."
    )
    memory_limit_mb: int = Field(default=1_024, ge=128, description="MB at which a worker is replaced.")
    per_exchange: int = Field(
        default=0, ge=0, description="Workers that calls to one exchange may occupy; 0 is half of them."
    )


class ServiceSettings(Section):
    poll_interval_s: float = Field(default=2.0, gt=0, le=3_600, description="s between looks at edited rows.")
    user_id: int | None = Field(default=None, description="Serve the bots of this user only.")
    max_concurrent_bots: int = Field(default=10_000, ge=1, description="Bots that may run at once.")
    max_bots_per_user: int = Field(default=10_000, ge=1, description="Bots of one user that may run at once.")
    max_errors: int = Field(default=8, ge=1, description="Failures in a row before a bot is stopped.")
    max_backoff_s: float = Field(
        default=300.0, gt=0, description="Longest wait between retries of a failing bot, s."
    )
    stop_timeout_s: float = Field(default=20.0, gt=0, description="s that steps under way get at shutdown.")
    lease_ttl_s: float = Field(
        default=6.0, ge=1, le=60, description="s after which a silent leader is replaced."
    )
    log_format: Literal["auto", "json", "text"] = Field(
        default="auto", description="auto is text on a terminal."
    )


class Settings(BaseSettings):
    """The whole of scheduler.toml."""

    model_config = SettingsConfigDict(
        env_prefix="ONEBAR_", env_nested_delimiter="__", extra="forbid", frozen=True
    )

    database: DatabaseSettings = DatabaseSettings()
    strategies: StrategySettings = StrategySettings()
    markets: MarketSettings = MarketSettings()
    workers: WorkerSettings = WorkerSettings()
    service: ServiceSettings = ServiceSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        del dotenv_settings, file_secret_settings
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)


def load_settings(file: Path | None = None) -> Settings:
    """Read `file`, or scheduler.toml in the working directory if there is one.

    Relative paths in the file are relative to the file. Raises InvalidConfig with every fault, and
    FileNotFoundError if `file` is named and missing.
    """
    chosen = file or SETTINGS_FILE
    if file is not None and not file.is_file():
        raise FileNotFoundError(file)

    class FromFile(Settings):
        model_config = SettingsConfigDict(toml_file=chosen)

    overrides: dict[str, Any] = {}
    if url := os.environ.get("ONEBAR_DATABASE_URL"):
        overrides["database"] = {"url": url}
    try:
        settings = FromFile(**overrides)
    except tomllib.TOMLDecodeError as exc:
        raise InvalidConfig((Fault(str(chosen), "unreadable TOML", str(exc)),)) from exc
    except ValidationError as exc:
        raise InvalidConfig(tuple(map(_told, faults_of(exc)))) from None  # its text quotes what it was given
    except SettingsError as exc:
        # A section as a whole, ONEBAR_DATABASE=postgresql://...: what stands in it is not shown.
        raise InvalidConfig((_misnamed(exc),)) from None
    return _anchored(settings, chosen.resolve().parent)


def _told(fault: Fault) -> Fault:
    """Show of a database's URL its scheme: a typing error may have put its password anywhere."""
    if fault.path != "database.url" or not fault.found.startswith('"'):
        return fault
    scheme = re.match(r'"[A-Za-z][A-Za-z0-9+.-]*:/*', fault.found)
    return replace(fault, found=f'{scheme[0]}..."' if scheme else "text without a scheme")


def _misnamed(error: SettingsError) -> Fault:
    named = re.search(r'field "(\w+)"', str(error))
    variable = f"ONEBAR_{named[1].upper()}" if named else "ONEBAR_..."
    return Fault(f"environment {variable}", "text", f"one variable for each key, such as {variable}__KEY")


def _anchored(settings: Settings, folder: Path) -> Settings:
    markets = settings.markets.model_copy(update={"csv_folder": folder / settings.markets.csv_folder})
    plugins = tuple(folder / plugin for plugin in settings.strategies.plugins)
    strategies = settings.strategies.model_copy(update={"plugins": plugins})
    return settings.model_copy(update={"markets": markets, "strategies": strategies})
