"""What is audited: a data set, canaries in it, and who is a member of which model."""
