"""What tuning found."""
