"""What a report says of one factor: each module makes a section, as data."""
