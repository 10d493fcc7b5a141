"""Start an MLflow server over PostgreSQL on loopback, for the tests or to try it by hand."""
