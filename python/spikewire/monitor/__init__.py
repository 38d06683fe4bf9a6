"""What people see of a run: the bytes it publishes, who may look, and the page that shows them."""
