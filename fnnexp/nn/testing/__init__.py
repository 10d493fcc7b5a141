"""What the numbers are tested against."""
