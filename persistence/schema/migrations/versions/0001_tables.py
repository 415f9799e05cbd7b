"""The tables, and the triggers that make a plain SQL edit of a bot as good as ours.

A migration is history: it imports nothing that can change later.
"""

from typing import Any, Final

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

MONEY: Final = sa.Numeric().with_variant(sa.Text(), "sqlite")
MOMENT: Final = postgresql.TIMESTAMP(timezone=True).with_variant(sa.Text(), "sqlite")
JSON_TEXT: Final = postgresql.JSONB().with_variant(sa.Text(), "sqlite")
NUMBERED: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    sqlite = op.get_bind().dialect.name == "sqlite"
    now = sa.text("(strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))" if sqlite else "now()")
    _bots(now)
    _steps()
    _ledger()
    _world()
    _service(now)
    _failures()
    for statement in SQLITE if sqlite else POSTGRESQL:
        op.execute(sa.text(statement.replace(":", r"\:")))


def _need(name: str, kind: Any, **options: Any) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=False, **options)


def _key(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.BigInteger(), primary_key=True, autoincrement=False)


def _id() -> sa.Column[Any]:
    return sa.Column("id", NUMBERED, sa.Identity(), primary_key=True)


def _listed(table: str, column: str, *values: str) -> sa.CheckConstraint:
    return sa.CheckConstraint(
        f"{column} IN ({', '.join(map(repr, values))})", name=op.f(f"ck_{table}_{column}")
    )


def _bots(now: Any) -> None:
    op.create_table(
        "trading_bots",
        _id(),
        _need("user_id", sa.BigInteger(), server_default=sa.text("1")),
        _need("type", sa.Text(), server_default="paper"),
        _need("enabled", sa.Boolean(), server_default=sa.true()),
        _need("paused", sa.Boolean(), server_default=sa.false()),
        _need("status", sa.Text(), server_default="stopped"),
        sa.Column("schedule", sa.Text()),
        _need("config", JSON_TEXT),
        _need("revision", sa.BigInteger(), server_default=sa.text("1")),
        *(sa.Column(name, MOMENT) for name in ("started_at", "stopped_at", "resumed_at", "last_heartbeat")),
        _need("error_count", sa.Integer(), server_default=sa.text("0")),
        sa.Column("last_error", sa.Text()),
        sa.Column("retry_at", MOMENT),
        sa.Column("current_balance", MONEY),
        _need("total_pnl", MONEY, server_default=sa.text("'0'")),
        _need("description", sa.Text(), server_default=""),
        sa.Column("edited_by", sa.Text()),
        sa.Column("edit_reason", sa.Text()),
        _need("created_at", MOMENT, server_default=now),
        _need("updated_at", MOMENT, server_default=now),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_trading_bots")),
        _listed("trading_bots", "type", "paper", "live"),
        _listed("trading_bots", "status", "stopped", "starting", "running", "paused", "error", "stopping"),
        sa.CheckConstraint("enabled IN (true, false)", name=op.f("ck_trading_bots_enabled")),
        sa.CheckConstraint("paused IN (true, false)", name=op.f("ck_trading_bots_paused")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_trading_bots_user_id", "trading_bots", ["user_id"])


def _steps() -> None:
    op.create_table(
        "bot_states",
        _key("bot_id"),
        _need("version", sa.BigInteger()),
        _need("last_bar", sa.BigInteger()),
        sa.Column("first_bar", sa.BigInteger()),
        sa.Column("trade_from", sa.BigInteger()),
        _need("configuration", sa.Text()),
        _need("fingerprint", sa.Text()),
        _need("state", sa.LargeBinary()),
        sa.PrimaryKeyConstraint("bot_id", name=op.f("pk_bot_states")),
        sa.ForeignKeyConstraint(
            ["bot_id"], ["trading_bots.id"], name=op.f("fk_bot_states_bot_id"), ondelete="CASCADE"
        ),
        sa.CheckConstraint("version > 0", name=op.f("ck_bot_states_version")),
    )
    op.create_table(
        "configurations",
        sa.Column("digest", sa.Text(), primary_key=True),
        _need("config", sa.Text()),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_configurations")),
    )
    op.create_table(
        "bot_steps",
        _key("bot_id"),
        _key("bar"),
        _need("version", sa.BigInteger()),
        _need("cash", MONEY),
        _need("equity", MONEY),
        _need("positions", sa.Text()),
        _need("orders", sa.Integer()),
        _need("trades", sa.Integer()),
        _need("trading", sa.Boolean()),
        _need("decided_at", MOMENT),
        _need("took_ms", sa.Double()),
        sa.PrimaryKeyConstraint("bot_id", "bar", name=op.f("pk_bot_steps")),
        sqlite_with_rowid=False,
    )


def _ledger() -> None:
    op.create_table(
        "orders",
        _key("bot_id"),
        _key("number"),
        *(_need(name, sa.Text()) for name in ("client_order_id", "symbol", "feed", "side", "exectype")),
        _need("size", MONEY),
        sa.Column("price", MONEY),
        sa.Column("pricelimit", MONEY),
        _need("status", sa.Text()),
        _need("bar", sa.BigInteger()),
        _need("updated_bar", sa.BigInteger()),
        _need("executed_size", MONEY),
        _need("executed_price", MONEY),
        sa.Column("executed_bar", sa.BigInteger()),
        _need("commission", MONEY),
        _need("pnl", MONEY),
        _need("tradeid", sa.BigInteger()),
        sa.Column("parent", sa.BigInteger()),
        _need("info", sa.Text()),
        sa.PrimaryKeyConstraint("bot_id", "number", name=op.f("pk_orders")),
        sa.UniqueConstraint("client_order_id", name=op.f("uq_orders_client_order_id")),
        _listed("orders", "side", "buy", "sell"),
        _listed(
            "orders", "status",
            "Created", "Submitted", "Accepted", "Partial", "Completed",
            "Canceled", "Expired", "Margin", "Rejected",
        ),
        sqlite_with_rowid=False,
    )  # fmt: skip
    op.create_table(
        "trading_trades",
        _key("bot_id"),
        _key("number"),
        *(_need(name, sa.Text()) for name in ("symbol", "feed", "side")),
        _need("quantity", MONEY),
        _need("entry_bar", sa.BigInteger()),
        _need("entry_time", MOMENT),
        _need("entry_price", MONEY),
        _need("exit_bar", sa.BigInteger()),
        _need("exit_time", MOMENT),
        _need("exit_price", MONEY),
        _need("entry_order", sa.BigInteger()),
        sa.Column("exit_order", sa.BigInteger()),
        *(_need(name, MONEY) for name in ("commission", "gross_pnl", "net_pnl")),
        *(sa.Column(name, sa.Text()) for name in ("entry_logic", "exit_logic", "exit_reason")),
        _need("bars", sa.BigInteger()),
        sa.PrimaryKeyConstraint("bot_id", "number", name=op.f("pk_trading_trades")),
        _listed("trading_trades", "side", "long", "short"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "trading_positions",
        _key("bot_id"),
        _key("number"),
        *(_need(name, sa.Text()) for name in ("symbol", "feed", "side")),
        _need("quantity", MONEY),
        _need("price", MONEY),
        _need("opened_bar", sa.BigInteger()),
        sa.Column("closed_bar", sa.BigInteger()),
        sa.PrimaryKeyConstraint("bot_id", "number", name=op.f("pk_trading_positions")),
        _listed("trading_positions", "side", "long", "short"),
        sqlite_with_rowid=False,
    )
    is_open = sa.text("closed_bar IS NULL")
    op.create_index(
        "ix_trading_positions_open",
        "trading_positions",
        ["bot_id"],
        sqlite_where=is_open,
        postgresql_where=is_open,
    )


def _world() -> None:
    op.create_table(
        "bars",
        *(sa.Column(name, sa.Text(), primary_key=True) for name in ("source", "symbol", "interval")),
        _key("open_time"),
        *(_need(name, sa.Double()) for name in ("open", "high", "low", "close", "volume")),
        _need("recorded_at", MOMENT),
        sa.PrimaryKeyConstraint("source", "symbol", "interval", "open_time", name=op.f("pk_bars")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "notifications",
        sa.Column("key", sa.Text(), primary_key=True),
        sa.Column("bot_id", sa.BigInteger()),
        sa.Column("bar", sa.BigInteger()),
        *(_need(name, sa.Text()) for name in ("kind", "title", "body")),
        _need("created_at", MOMENT),
        _need("next_attempt_at", MOMENT),
        _need("attempts", sa.Integer(), server_default=sa.text("0")),
        sa.Column("last_error", sa.Text()),
        sa.Column("sent_at", MOMENT),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_notifications")),
    )
    is_due = sa.text("sent_at IS NULL")
    op.create_index(
        "ix_notifications_due",
        "notifications",
        ["next_attempt_at"],
        sqlite_where=is_due,
        postgresql_where=is_due,
    )


def _service(now: Any) -> None:
    op.create_table(
        "audit_log",
        _id(),
        _need("at", MOMENT, server_default=now),
        _need("actor", sa.Text()),
        _need("action", sa.Text()),
        sa.Column("bot_id", sa.BigInteger()),
        *(sa.Column(name, sa.Text()) for name in ("reason", "old", "new")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_log")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_audit_log_bot_id", "audit_log", ["bot_id"])
    op.create_table(
        "leases",
        sa.Column("name", sa.Text(), primary_key=True),
        _need("holder", sa.Text()),
        _need("epoch", sa.BigInteger()),
        _need("until", sa.BigInteger()),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_leases")),
        sa.UniqueConstraint("name", "epoch", name=op.f("uq_leases_name_epoch")),
    )
    op.create_table(
        "service_runs",
        sa.Column("run", sa.Text(), primary_key=True),
        _need("host", sa.Text()),
        _need("pid", sa.Integer()),
        sa.Column("user_id", sa.BigInteger()),
        _need("role", sa.Text()),
        _need("started_at", MOMENT),
        _need("heartbeat_at", MOMENT),
        sa.Column("ended_at", MOMENT),
        sa.Column("clean", sa.Boolean()),
        _need("details", sa.Text()),
        sa.PrimaryKeyConstraint("run", name=op.f("pk_service_runs")),
    )


def _failures() -> None:
    op.create_table(
        "apscheduler_jobs",
        sa.Column("id", sa.String(191), primary_key=True),
        sa.Column("next_run_time", sa.Double()),
        _need("job_state", sa.Text()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_apscheduler_jobs")),
    )
    op.create_index("ix_apscheduler_jobs_next_run_time", "apscheduler_jobs", ["next_run_time"])
    op.create_table(
        "breakers",
        sa.Column("name", sa.String(191), primary_key=True),
        _need("failures", sa.Integer()),
        _need("opened_at", sa.BigInteger()),
        _need("open_for", sa.BigInteger()),
        _need("reason", sa.Text()),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_breakers")),
    )
    op.create_table(
        "bot_errors",
        _key("bot_id"),
        sa.Column("kind", sa.Text(), primary_key=True),
        _need("count", sa.BigInteger()),
        _need("last_at", MOMENT),
        _need("last_message", sa.Text()),
        sa.PrimaryKeyConstraint("bot_id", "kind", name=op.f("pk_bot_errors")),
    )


WISHES: Final = ("config", "schedule", "enabled", "paused", "type", "user_id", "description")
AUDITED: Final = (*WISHES, "status")


def _sqlite_json(row: str, columns: tuple[str, ...], *, changed_only: bool) -> str:
    """JSON of a bot's edited columns; NULLs are left out."""
    only = "CASE WHEN OLD.{0} IS NOT NEW.{0} THEN {1} END" if changed_only else "{1}"
    flag = "json(CASE {0} WHEN 1 THEN 'true' ELSE 'false' END)"
    flags = {"enabled", "paused"}
    pairs = ", ".join(
        f"'{name}', " + only.format(name, flag.format(f"{row}.{name}") if name in flags else f"{row}.{name}")
        for name in columns
    )
    return f"json_patch('{{}}', json_object({pairs}))"


def _postgresql_json(row: str, columns: tuple[str, ...], *, changed_only: bool) -> str:
    only = "CASE WHEN OLD.{0} IS DISTINCT FROM NEW.{0} THEN {1}.{0}{2} END" if changed_only else "{1}.{0}{2}"
    pairs = ", ".join(
        # As text: stripping NULLs must not reach into the configuration.
        f"'{name}', " + only.format(name, row, "::text" if name == "config" else "")
        for name in columns
    )
    return f"jsonb_strip_nulls(jsonb_build_object({pairs}))::text"


NOW_SQLITE: Final = "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')"
SQLITE: Final = (
    # An edit is a new chance for a bot that was stopped by its errors, even if it changes nothing.
    # Whoever edits says so in edited_by; the trigger takes that away again, so that the next edit by
    # plain SQL is not laid at the same door. AFTER triggers, because SQLite cannot change NEW.
    f"""
CREATE TRIGGER trading_bots_edited AFTER UPDATE OF {", ".join(WISHES)} ON trading_bots
BEGIN
  INSERT INTO audit_log (actor, action, bot_id, reason, old, new)
  VALUES (coalesce(NEW.edited_by, 'sql'), 'edited', NEW.id, NEW.edit_reason,
          {_sqlite_json("OLD", WISHES, changed_only=True)},
          {_sqlite_json("NEW", WISHES, changed_only=True)});
  UPDATE trading_bots SET status = 'stopped'
  WHERE id = NEW.id AND OLD.status = 'error' AND status = 'error';
  UPDATE trading_bots
  SET revision = OLD.revision + 1,
      resumed_at = CASE WHEN OLD.paused > NEW.paused OR OLD.enabled < NEW.enabled
                        THEN {NOW_SQLITE} ELSE resumed_at END,
      error_count = CASE WHEN OLD.status = 'error' THEN 0 ELSE error_count END,
      retry_at = CASE WHEN OLD.status = 'error' THEN NULL ELSE retry_at END,
      updated_at = {NOW_SQLITE}, edited_by = NULL, edit_reason = NULL
  WHERE id = NEW.id;
END""",
    f"""
CREATE TRIGGER trading_bots_status AFTER UPDATE OF status ON trading_bots
WHEN OLD.status IS NOT NEW.status
BEGIN
  INSERT INTO audit_log (actor, action, bot_id, reason, old, new)
  VALUES (coalesce(NEW.edited_by, 'sql'), 'status', NEW.id, NEW.edit_reason, OLD.status, NEW.status);
  UPDATE trading_bots SET updated_at = {NOW_SQLITE}, edited_by = NULL, edit_reason = NULL
  WHERE id = NEW.id;
END""",
    f"""
CREATE TRIGGER trading_bots_added AFTER INSERT ON trading_bots
BEGIN
  INSERT INTO audit_log (actor, action, bot_id, reason, new)
  VALUES (coalesce(NEW.edited_by, 'sql'), 'added', NEW.id, NEW.edit_reason,
          {_sqlite_json("NEW", AUDITED, changed_only=False)});
  UPDATE trading_bots SET edited_by = NULL, edit_reason = NULL
  WHERE id = NEW.id AND (edited_by IS NOT NULL OR edit_reason IS NOT NULL);
END""",
    # Steps go with their bot, as its state does; orders, trades and positions stay: they are the ledger.
    f"""
CREATE TRIGGER trading_bots_removed AFTER DELETE ON trading_bots
BEGIN
  INSERT INTO audit_log (actor, action, bot_id, reason, old)
  VALUES (coalesce(OLD.edited_by, 'sql'), 'removed', OLD.id, OLD.edit_reason,
          {_sqlite_json("OLD", AUDITED, changed_only=False)});
  DELETE FROM bot_steps WHERE bot_id = OLD.id;
  DELETE FROM bot_errors WHERE bot_id = OLD.id;
END""",
    # Without its state a bot would begin anew, and its order numbers with it, over the old ledger.
    """
CREATE TRIGGER bot_states_stay BEFORE DELETE ON bot_states
WHEN EXISTS (SELECT 1 FROM trading_bots WHERE id = OLD.bot_id)
BEGIN SELECT RAISE(ABORT, 'a state goes with its bot: remove the bot and add it again'); END""",
    """
CREATE TRIGGER audit_log_no_update BEFORE UPDATE ON audit_log
BEGIN SELECT RAISE(ABORT, 'audit_log is append only'); END""",
    """
CREATE TRIGGER audit_log_no_delete BEFORE DELETE ON audit_log
BEGIN SELECT RAISE(ABORT, 'audit_log is append only'); END""",
)

NOW_POSTGRESQL: Final = "date_trunc('milliseconds', clock_timestamp())"
WHO: Final = "coalesce(NEW.edited_by, 'sql ' || session_user)"
POSTGRESQL: Final = (
    # BEFORE triggers run in the order of their names: edited, status, who.
    f"""
CREATE FUNCTION trading_bots_edited() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO audit_log (at, actor, action, bot_id, reason, old, new)
  VALUES ({NOW_POSTGRESQL}, {WHO}, 'edited', NEW.id, NEW.edit_reason,
          {_postgresql_json("OLD", WISHES, changed_only=True)},
          {_postgresql_json("NEW", WISHES, changed_only=True)});
  NEW.revision := OLD.revision + 1;
  IF (OLD.paused AND NOT NEW.paused) OR (NEW.enabled AND NOT OLD.enabled) THEN
    NEW.resumed_at := {NOW_POSTGRESQL};
  END IF;
  IF OLD.status = 'error' THEN
    NEW.error_count := 0;
    NEW.retry_at := NULL;
    IF NEW.status = 'error' THEN
      NEW.status := 'stopped';
    END IF;
  END IF;
  NEW.updated_at := {NOW_POSTGRESQL};
  RETURN NEW;
END $$""",
    f"""
CREATE TRIGGER trading_bots_edited BEFORE UPDATE OF {", ".join(WISHES)} ON trading_bots
FOR EACH ROW EXECUTE FUNCTION trading_bots_edited()""",
    f"""
CREATE FUNCTION trading_bots_status() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO audit_log (at, actor, action, bot_id, reason, old, new)
  VALUES ({NOW_POSTGRESQL}, {WHO}, 'status', NEW.id, NEW.edit_reason, OLD.status, NEW.status);
  NEW.updated_at := {NOW_POSTGRESQL};
  RETURN NEW;
END $$""",
    f"""
CREATE TRIGGER trading_bots_status BEFORE UPDATE OF {", ".join(AUDITED)} ON trading_bots
FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION trading_bots_status()""",
    # Takes away who made the edit, so that the next one by plain SQL is not laid at the same door.
    """
CREATE FUNCTION trading_bots_who() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.edited_by := NULL;
  NEW.edit_reason := NULL;
  RETURN NEW;
END $$""",
    f"""
CREATE TRIGGER trading_bots_who BEFORE UPDATE OF {", ".join(AUDITED)} ON trading_bots
FOR EACH ROW EXECUTE FUNCTION trading_bots_who()""",
    f"""
CREATE FUNCTION trading_bots_added() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO audit_log (at, actor, action, bot_id, reason, new)
  VALUES (clock_timestamp(), coalesce(NEW.edited_by, 'sql ' || session_user), 'added', NEW.id,
          NEW.edit_reason, {_postgresql_json("NEW", AUDITED, changed_only=False)});
  NEW.edited_by := NULL;
  NEW.edit_reason := NULL;
  RETURN NEW;
END $$""",
    """
CREATE TRIGGER trading_bots_added BEFORE INSERT ON trading_bots
FOR EACH ROW EXECUTE FUNCTION trading_bots_added()""",
    f"""
CREATE FUNCTION trading_bots_removed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO audit_log (at, actor, action, bot_id, reason, old)
  VALUES (clock_timestamp(), coalesce(OLD.edited_by, 'sql ' || session_user), 'removed', OLD.id,
          OLD.edit_reason, {_postgresql_json("OLD", AUDITED, changed_only=False)});
  DELETE FROM bot_steps WHERE bot_id = OLD.id;
  DELETE FROM bot_errors WHERE bot_id = OLD.id;
  RETURN NULL;
END $$""",
    """
CREATE TRIGGER trading_bots_removed AFTER DELETE ON trading_bots
FOR EACH ROW EXECUTE FUNCTION trading_bots_removed()""",
    """
CREATE FUNCTION trading_bots_notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_notify('onebar_bots', coalesce(NEW.id, OLD.id)::text);
  RETURN NULL;
END $$""",
    f"""
CREATE TRIGGER trading_bots_notify AFTER INSERT OR DELETE OR UPDATE OF {", ".join(WISHES)} ON trading_bots
FOR EACH ROW EXECUTE FUNCTION trading_bots_notify()""",
    """
CREATE FUNCTION bot_states_stay() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF EXISTS (SELECT 1 FROM trading_bots WHERE id = OLD.bot_id) THEN
    RAISE EXCEPTION 'a state goes with its bot: remove the bot and add it again';
  END IF;
  RETURN OLD;
END $$""",
    """
CREATE TRIGGER bot_states_stay BEFORE DELETE ON bot_states
FOR EACH ROW EXECUTE FUNCTION bot_states_stay()""",
    """
CREATE FUNCTION audit_log_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'audit_log is append only'; END $$""",
    """
CREATE TRIGGER audit_log_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log
FOR EACH STATEMENT EXECUTE FUNCTION audit_log_append_only()""",
    # States are compressed already, and a row of 1,900 B leaves room for its next version on the page.
    "ALTER TABLE bot_states ALTER COLUMN state SET STORAGE EXTERNAL",
    "ALTER TABLE bot_states SET (fillfactor = 50)",
    "ALTER TABLE trading_bots SET (fillfactor = 50)",
)
