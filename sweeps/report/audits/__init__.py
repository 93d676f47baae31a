"""What audits say of every row, each kind in a file of its own, and the page that shows them."""
