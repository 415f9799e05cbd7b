"""The tables: what they are, and how a database comes to have them."""

from persistence.schema.versions import (
    HEAD,
    SchemaTooNew,
    SchemaUnfit,
    check,
    is_current,
    require,
    upgrade,
)

__all__ = ["HEAD", "SchemaTooNew", "SchemaUnfit", "check", "is_current", "require", "upgrade"]
