"""Remember: tables, migrations, transactions. Rows in, values out."""
