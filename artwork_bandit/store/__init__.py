"""The only room that knows SQLAlchemy: tables, transactions, and a module per thing stored."""
