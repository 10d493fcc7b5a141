"""The published experiments beside ours."""
