"""From what MLflow holds to frames, numbers, pictures and the report."""
