"""MLflow: the store, the only writer to it, and its UI."""
