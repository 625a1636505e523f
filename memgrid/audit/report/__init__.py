"""What an audit found: in the terminal, and on a page with tables and figures."""
