"""What runs' settings say on the page: in what a row differs from what is shipped, and what is typed to get it."""
