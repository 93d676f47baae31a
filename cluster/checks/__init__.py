"""What each kind of cluster file must hold; every function returns problems as sentences."""
