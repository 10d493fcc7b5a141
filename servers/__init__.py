"""An MLflow server with PostgreSQL behind it, on loopback: for the tests, and for a person to try."""
