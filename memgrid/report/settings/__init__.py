"""What runs' settings say on the page: in what a row differs from what is shipped."""
