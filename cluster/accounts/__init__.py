"""What an account must have before machines can come; looks only, changes nothing."""
