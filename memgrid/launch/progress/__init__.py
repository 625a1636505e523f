"""What a sweep says while it lasts and when it has ended: counts, what runs where, until when, and a table with what to type next."""
